// Streams of good files: text, Megatron's .bin/.idx, headerless ids.
#include "core/error.h"
#include "tests/training/data_files.h"
#include "training/token_data.h"

namespace switchyard {
namespace {

const DataConfig kText = text_format();
const DataConfig kTokens = token_format("uint16");

std::vector<int64_t> tokens_of(const TokenStream& stream, int64_t begin, int64_t end) {
  std::vector<int64_t> tokens(end - begin);
  stream.read(begin, end - begin, tokens.data());
  return tokens;
}

std::vector<int64_t> tokens_of(const TokenStream& stream) {
  return tokens_of(stream, 0, stream.num_tokens());
}

class TokenStreams : public DataFiles {};

TEST_F(TokenStreams, PutAnEndOfDocumentBehindEachTextFile) {
  const auto stream = open_token_stream({write("a.txt", "ab"), write("b.txt", "c\xff")}, kText, 257);
  EXPECT_EQ(tokens_of(*stream), (std::vector<int64_t>{'a', 'b', 256, 'c', 255, 256}));
}

TEST_F(TokenStreams, ReadAnyPartOfTheJoinedFiles) {
  const auto stream = open_token_stream({write("a.txt", "ab"), write("b.txt", "c"), write("c.txt", "de")}, kText, 257);
  const auto all = tokens_of(*stream);
  ASSERT_EQ(all.size(), 8U);
  for (int64_t begin = 0; begin <= 8; ++begin) {
    for (int64_t end = begin; end <= 8; ++end) {
      EXPECT_EQ(tokens_of(*stream, begin, end), std::vector<int64_t>(all.begin() + begin, all.begin() + end)) << begin << " to " << end;
    }
  }
  EXPECT_ANY_THROW(tokens_of(*stream, 5, 9));
}

TEST_F(TokenStreams, CountTextBytesWithoutEndsOfDocuments) {
  const auto stream = open_token_stream({write("a.txt", "ab"), write("b.txt", "cde")}, kText, 257);
  EXPECT_EQ(stream->num_text_bytes(0, 7), 5.0);
  EXPECT_EQ(stream->num_text_bytes(1, 4), 2.0);  // b, end of document, c
  EXPECT_EQ(stream->num_text_bytes(2, 3), 0.0);
}

TEST_F(TokenStreams, ReadMegatronFilesByBinPathAndByPrefix) {
  const auto bin = write("x.bin", bytes_of<uint16_t>({7, 8, 65535, 9, 10}));
  write("x.idx", two_documents().bytes());
  const std::vector<int64_t> expected{7, 8, 65535, 9, 10};
  EXPECT_EQ(tokens_of(*open_token_stream({bin}, kTokens, 65536)), expected);
  EXPECT_EQ(tokens_of(*open_token_stream({path("x")}, kTokens, 65536)), expected);
}

TEST_F(TokenStreams, ReadIndicesWhoseArraysAreNotAligned) {
  // One sequence: the pointers begin at byte 38.
  const auto bin = write("x.bin", bytes_of<int32_t>({100000, 3}));
  write("x.idx", IndexFields{.dtype_code = 4, .lengths = {2}, .pointers = {0}, .document_indices = {0, 1}}.bytes());
  EXPECT_EQ(tokens_of(*open_token_stream({bin}, kTokens, 200000)), (std::vector<int64_t>{100000, 3}));
}

TEST_F(TokenStreams, ReadEveryIntegerTypeOfMegatron) {
  const auto read = [this](uint8_t code, const std::string& bytes) {
    const auto bin = write("x.bin", bytes);
    write("x.idx", IndexFields{.dtype_code = code, .lengths = {2}, .pointers = {0}, .document_indices = {0, 1}}.bytes());
    return tokens_of(*open_token_stream({bin}, kTokens, 300));
  };
  const std::vector<int64_t> expected{5, 120};
  EXPECT_EQ(read(1, bytes_of<uint8_t>({5, 120})), expected);
  EXPECT_EQ(read(2, bytes_of<int8_t>({5, 120})), expected);
  EXPECT_EQ(read(3, bytes_of<int16_t>({5, 120})), expected);
  EXPECT_EQ(read(4, bytes_of<int32_t>({5, 120})), expected);
  EXPECT_EQ(read(5, bytes_of<int64_t>({5, 120})), expected);
  EXPECT_EQ(read(8, bytes_of<uint16_t>({5, 120})), expected);
}

TEST_F(TokenStreams, ReadHeaderlessIdsOfTheConfiguredType) {
  const auto small = write("small.bin", bytes_of<uint16_t>({1, 40000}));
  EXPECT_EQ(tokens_of(*open_token_stream({small}, kTokens, 50000)), (std::vector<int64_t>{1, 40000}));
  const auto large = write("large.npy", bytes_of<uint32_t>({1, 100000}));
  const DataConfig wide = token_format("uint32");
  EXPECT_EQ(tokens_of(*open_token_stream({large}, wide, 200000)), (std::vector<int64_t>{1, 100000}));
}

TEST_F(TokenStreams, TakeTextBytesOfTokensFromTheSidecarInProportion) {
  const auto bin = write("x.bin", bytes_of<uint16_t>({1, 2, 3, 4}));
  EXPECT_FALSE(open_token_stream({bin}, kTokens, 10)->num_text_bytes(0, 4));
  write("x.meta.json", R"({"num_tokens": 4, "num_bytes": 10})");
  EXPECT_EQ(open_token_stream({bin}, kTokens, 10)->num_text_bytes(1, 3), 5.0);
}

TEST_F(TokenStreams, HaveAFingerprintOfNamesSizesAndBytes) {
  const auto fingerprint = [this](const std::string& name, const std::string& bytes) {
    return open_token_stream({write(name, bytes)}, kText, 257)->fingerprint();
  };
  const std::string large(1 << 20, 'x');
  const auto changed_at = [&large](size_t position) {
    std::string text = large;
    text[position] = 'y';
    return text;
  };
  EXPECT_EQ(fingerprint("a.txt", large), fingerprint("a.txt", large));
  EXPECT_NE(fingerprint("a.txt", large), fingerprint("b.txt", large));
  EXPECT_NE(fingerprint("a.txt", large), fingerprint("a.txt", large + "x"));
  EXPECT_NE(fingerprint("a.txt", large), fingerprint("a.txt", changed_at(0)));
  EXPECT_NE(fingerprint("a.txt", large), fingerprint("a.txt", changed_at(large.size() - 1)));
  EXPECT_NE(fingerprint("a.txt", "abc"), fingerprint("a.txt", "adc"));
}

}  // namespace
}  // namespace switchyard
