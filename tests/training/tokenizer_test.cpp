#include "training/tokenizer.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace switchyard {
namespace {

TEST(ByteTokenizer, MakesOneTokenOfEachByte) {
  EXPECT_EQ(encode_bytes("A\n"), (std::vector<int64_t>{65, 10}));
  EXPECT_EQ(encode_bytes(""), std::vector<int64_t>{});
}

TEST(ByteTokenizer, DoesNotTakeHighBytesForNegativeNumbers) {
  EXPECT_EQ(encode_bytes("\xc3\xa9\xff"), (std::vector<int64_t>{195, 169, 255}));
}

TEST(ByteTokenizer, DecodesWhatItEncodedForEveryByte) {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
  EXPECT_EQ(decode_bytes(encode_bytes(text)), text);
}

TEST(ByteTokenizer, WritesTheEndOfADocumentAsANewline) {
  EXPECT_EQ(decode_bytes({65, kEndOfDocument, 66}), "A\nB");
}

TEST(ByteTokenizer, RefusesTokensOfAnotherVocabulary) {
  EXPECT_THROW(decode_bytes({257}), UserError);
  EXPECT_THROW(decode_bytes({-1}), UserError);
}

}  // namespace
}  // namespace switchyard
