// Every way in which a data file can be bad, and that the message names the file and the fault.
#include "core/error.h"
#include "tests/training/data_files.h"
#include "training/token_data.h"

namespace switchyard {
namespace {

class BadData : public DataFiles {
 protected:
  static std::string text_error(const std::string& path, int64_t vocab_size = 257) {
    return opening_error(path, text_format(), vocab_size);
  }
  static std::string token_error(const std::string& path, const std::string& token_dtype = "uint16") {
    return opening_error(path, token_format(token_dtype), /*vocab_size=*/100);
  }
  /// The error of a good .bin of five uint16 tokens with this index.
  std::string index_error(const std::string& index) const {
    const auto bin = write("x.bin", bytes_of<uint16_t>({1, 2, 3, 4, 5}));
    write("x.idx", index);
    return token_error(bin);
  }
  std::string index_error(const IndexFields& index) const { return index_error(index.bytes()); }
  std::string sidecar_error(const std::string& sidecar) const {
    const auto bin = write("x.bin", bytes_of<uint16_t>({1, 2, 3, 4, 5}));
    write("x.meta.json", sidecar);
    return token_error(bin);
  }

 private:
  static std::string opening_error(const std::string& path, const DataConfig& config, int64_t vocab_size) {
    try {
      open_token_stream({path}, config, vocab_size);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
};

#define EXPECT_CONTAINS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

TEST_F(BadData, NamesAMissingFile) {
  EXPECT_CONTAINS(text_error(path("none.txt")), path("none.txt") + ": cannot be opened: No such file");
  EXPECT_CONTAINS(token_error(path("none.bin")), path("none.bin") + ": cannot be opened: No such file");
}

TEST_F(BadData, NamesAnEmptyFile) {
  EXPECT_CONTAINS(text_error(write("a.txt", "")), path("a.txt") + ": is empty");
  EXPECT_CONTAINS(token_error(write("a.bin", "")), path("a.bin") + ": is empty");
}

TEST_F(BadData, AsksForTheFilesOfAFolder) {
  const auto folder = std::filesystem::path(path("x")).parent_path().string();
  EXPECT_CONTAINS(text_error(folder), "is a folder; list the files in it");
}

TEST_F(BadData, RefusesWhatCannotBeMapped) {
  EXPECT_CONTAINS(text_error("/dev/null"), "/dev/null: is not a regular file");
}

TEST_F(BadData, RefusesTextForAVocabularyWithoutAllBytes) {
  EXPECT_CONTAINS(text_error(write("a.txt", "abc"), 256), "needs model.vocab_size >= 257");
}

TEST_F(BadData, FindsAnOddSize) {
  EXPECT_CONTAINS(token_error(write("a.bin", "123")), "3 bytes are no whole number of uint16 ids");
  EXPECT_CONTAINS(token_error(write("a.bin", "123456"), "uint32"), "6 bytes are no whole number of uint32 ids");
}

TEST_F(BadData, RefusesATypeOfTokensThatItDoesNotKnow) {
  EXPECT_CONTAINS(token_error(write("a.bin", "12"), "float"), "data.token_dtype = float is not known");
}

TEST_F(BadData, RefusesAnIndexOrANumpyFileAsTokens) {
  EXPECT_CONTAINS(token_error(write("a.idx", two_documents().bytes())), "is an index; give the .bin file");
  EXPECT_CONTAINS(token_error(write("a.npy", "\x93NUMPY\x01\x00....")), "has a NumPy header");
}

TEST_F(BadData, AcceptsTheGoodFilesThatTheOthersAreMadeFrom) {
  EXPECT_EQ(index_error(two_documents()), "no error");
  EXPECT_EQ(sidecar_error(R"({"num_tokens": 5, "vocab_size": 100})"), "no error");
}

TEST_F(BadData, FindsATruncatedIndexAtEveryLength) {
  const std::string whole = two_documents().bytes();
  for (size_t length = 1; length < whole.size(); ++length) {
    EXPECT_CONTAINS(index_error(whole.substr(0, length)), "truncated") << "at length " << length;
  }
  EXPECT_CONTAINS(index_error(whole + "x"), "something follows it");
}

TEST_F(BadData, FindsCountsThatWouldOverflow) {
  std::string bytes = two_documents().bytes();
  bytes.replace(18, 8, bytes_of<uint64_t>({uint64_t{1} << 62}));
  EXPECT_CONTAINS(index_error(bytes), "truncated: too short for its 4611686018427387904 sequences");
}

TEST_F(BadData, FindsAWrongMagic) {
  auto index = two_documents();
  index.magic[0] = 'X';
  EXPECT_CONTAINS(index_error(index), path("x.idx") + ": does not begin with MMIDIDX");
}

TEST_F(BadData, FindsAnUnknownVersion) {
  auto index = two_documents();
  index.version = 2;
  EXPECT_CONTAINS(index_error(index), "has version 2");
}

TEST_F(BadData, FindsATypeThatIsNoInteger) {
  for (const int code : {0, 6, 7, 9, 255}) {
    auto index = two_documents();
    index.dtype_code = static_cast<uint8_t>(code);
    EXPECT_CONTAINS(index_error(index), "has dtype code " + std::to_string(code));
  }
}

TEST_F(BadData, FindsPointersOutsideTheBinFile) {
  auto index = two_documents();
  index.pointers[1] = 8;  // 2 tokens from byte 8 of 10
  EXPECT_CONTAINS(index_error(index), "sequence 1 (byte 8, 4 bytes) points outside the .bin file of 10 bytes");
  index.pointers[1] = -2;
  EXPECT_CONTAINS(index_error(index), "points outside");
  index.pointers[1] = INT64_MAX;
  EXPECT_CONTAINS(index_error(index), "points outside");
}

TEST_F(BadData, FindsSequencesOutOfOrder) {
  auto index = two_documents();
  index.pointers[1] = 4;
  EXPECT_CONTAINS(index_error(index), "sequence 1 begins at byte 4, the one before ends at 6");
}

TEST_F(BadData, FindsANegativeLength) {
  auto index = two_documents();
  index.lengths[0] = -3;
  EXPECT_CONTAINS(index_error(index), "sequence 0 has length -3");
}

TEST_F(BadData, FindsAnIndexOfAnotherFile) {
  auto index = two_documents();
  index.lengths[1] = 1;
  EXPECT_CONTAINS(index_error(index), "covers 8 of the .bin file's 10 bytes");
}

TEST_F(BadData, FindsDocumentIndicesOutOfOrder) {
  for (const auto& indices : std::vector<std::vector<int64_t>>{{1, 1, 2}, {0, 2, 1}, {0, 1, 3}}) {
    auto index = two_documents();
    index.document_indices = indices;
    EXPECT_CONTAINS(index_error(index), "document index");
  }
}

TEST_F(BadData, FindsASizeThatTheSidecarDoesNotSay) {
  EXPECT_CONTAINS(sidecar_error(R"({"num_tokens": 6})"),
                  path("x.bin") + ": 10 bytes of uint16 ids, but its .meta.json says num_tokens = 6");
}

TEST_F(BadData, FindsAVocabularyLargerThanTheModels) {
  EXPECT_CONTAINS(sidecar_error(R"({"num_tokens": 5, "vocab_size": 101})"), "vocab_size = 101, more than model.vocab_size = 100");
}

TEST_F(BadData, RefusesAMalformedSidecar) {
  for (const auto* sidecar : {"", "{", "[]", R"({"num_tokens": "5"})", R"({"num_tokens": -5})", R"({"num_tokens": 5, "num_bytes": 1.5})"}) {
    EXPECT_CONTAINS(sidecar_error(sidecar), path("x.meta.json") + ": is no sidecar of a token file") << sidecar;
  }
}

TEST_F(BadData, NamesFileAndOffsetOfAnIdOutsideTheVocabularyWhenItIsRead) {
  const auto first = write("first.bin", bytes_of<uint16_t>({1, 2}));
  const auto second = write("second.bin", bytes_of<uint16_t>({3, 4, 100}));
  const auto stream = open_token_stream({first, second}, token_format(), /*vocab_size=*/100);
  std::vector<int64_t> tokens(5);
  EXPECT_NO_THROW(stream->read(0, 4, tokens.data()));
  try {
    stream->read(1, 4, tokens.data());
    FAIL() << "no error";
  } catch (const RunError& error) {
    EXPECT_CONTAINS(error.what(), second + ": token 2 (byte 4) has id 100, outside model.vocab_size = 100");
  }
}

TEST_F(BadData, FindsANegativeIdWhenItIsRead) {
  const auto bin = write("x.bin", bytes_of<int32_t>({1, -1}));
  write("x.idx", IndexFields{.dtype_code = 4, .lengths = {2}, .pointers = {0}, .document_indices = {0, 1}}.bytes());
  const auto stream = open_token_stream({bin}, token_format(), 100);
  std::vector<int64_t> tokens(2);
  EXPECT_THROW(stream->read(0, 2, tokens.data()), RunError);
}

}  // namespace
}  // namespace switchyard
