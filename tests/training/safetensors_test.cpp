#include "training/safetensors.h"

#include <cstring>
#include <limits>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "core/error.h"
#include "tests/temporary_folder.h"
#include "tests/training/file_content.h"
#include "training/mapped_file.h"

namespace switchyard {
namespace {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// u64 length, header, data.
std::string file_of(const std::string& header, const std::string& data, std::optional<uint64_t> stated_length = std::nullopt) {
  const uint64_t length = stated_length.value_or(header.size());
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file + header + data;
}

/// One F32 tensor of two elements with the offsets given.
std::string entry(const std::string& name, const std::string& offsets, const std::string& shape = "[2]", const std::string& dtype = "F32") {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

const std::string kEightBytes(8, 'x');

class Dtypes : public testing::TestWithParam<at::ScalarType> {};

TEST_P(Dtypes, ComeBackEqualToTheBitWithTheirShapes) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "all.safetensors";
  const at::Tensor matrix = (at::arange(12, at::kDouble) - 3).reshape({3, 4}).to(GetParam());
  const NamedTensors tensors = {
      {"transposed", matrix.t()}, {"scalar", at::ones({}, GetParam())}, {"empty", at::empty({0, 5}, GetParam())}, {"matrix", matrix}};
  const auto written = write_safetensors(path, tensors);
  const SafetensorsFile file(path);
  ASSERT_EQ(file.entries().size(), 4);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor read = file.read(name);
    EXPECT_EQ(read.scalar_type(), GetParam()) << name;
    EXPECT_TRUE(at::equal(read, tensor)) << name;
    EXPECT_EQ(file.entries().at(name).begin, written.at(name).begin) << name;
    EXPECT_EQ(file.entries().at(name).length, written.at(name).length) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Safetensors, Dtypes,
                         testing::Values(at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
                                         at::kFloat, at::kDouble),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(Safetensors, LiesInTheFileAsTheFormatSays) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "two.safetensors";
  write_safetensors(path, {{"b", at::tensor({1, 2}, at::kByte)}, {"a", at::tensor({3}, at::kByte)}});
  // Data in the order given (b before a), offsets from the header's end, header padded with spaces to a multiple of 8.
  std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"data_offsets":[2,3],"dtype":"U8","shape":[1]},"b":{"data_offsets":[0,2],"dtype":"U8","shape":[2]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(read_content(path), file_of(header, "\x01\x02\x03"));
}

TEST(Safetensors, KeepsMetadataBesideTheFormatKey) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "metadata.safetensors";
  write_safetensors(path, {}, {{"step", "7"}});
  const std::map<std::string, std::string> expected = {{"format", "pt"}, {"step", "7"}};
  EXPECT_EQ(SafetensorsFile(path).metadata(), expected);
}

TEST(Safetensors, ReplacesAFileWithoutTouchingWhoHasItMapped) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "replaced.safetensors";
  write_safetensors(path, {{"a", at::tensor({1, 2, 3}, at::kLong)}});
  const SafetensorsFile before(path);
  write_safetensors(path, {{"a", at::tensor({4}, at::kLong)}});
  EXPECT_TRUE(at::equal(before.read("a"), at::tensor({1, 2, 3}, at::kLong)));
  EXPECT_TRUE(at::equal(SafetensorsFile(path).read("a"), at::tensor({4}, at::kLong)));
}

TEST(Safetensors, NamesTheTensorThatIsNotThere) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "one.safetensors";
  write_safetensors(path, {{"a", at::ones({1})}});
  const SafetensorsFile file(path);
  const auto message = message_of<UserError>([&] { file.read("b"); });
  EXPECT_EQ(message, path.string() + ": has no tensor \"b\"");
}

TEST(Safetensors, RefusesToWriteWhatCannotBeReadBack) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "bad.safetensors";
  const auto refusal = [&](const NamedTensors& tensors) { return message_of<RunError>([&] { write_safetensors(path, tensors); }); };
  EXPECT_NE(refusal({{"a", at::ones({1})}, {"a", at::ones({1})}}).find("given twice"), std::string::npos);
  EXPECT_NE(refusal({{"__metadata__", at::ones({1})}}).find("reserved"), std::string::npos);
  EXPECT_NE(refusal({{"a", at::ones({1}, at::kComplexFloat)}}).find("ComplexFloat"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, SaysWhyAFileCannotBeWrittenAndLeavesNothing) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "too_large.safetensors";
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {4096, before.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);  // else the process dies instead of seeing EFBIG
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto message = message_of<RunError>([&] { write_safetensors(path, {{"a", at::ones({4096})}}); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_NE(message.find(path.string()), std::string::npos) << message;
  EXPECT_NE(message.find("File too large"), std::string::npos) << message;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

struct Malformed {
  std::string name;
  std::string file;
  std::string rule;  ///< a part of the message
};

class MalformedFiles : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedFiles, AreRefusedWithThePathAndTheRule) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "malformed.safetensors";
  write_content(path, GetParam().file);
  const auto message = message_of<UserError>([&] { SafetensorsFile file(path); });
  EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
  EXPECT_NE(message.find(GetParam().rule), std::string::npos) << message;
}

const std::string kTwice = "{" + entry("a", "[0,8]") + "," + entry("a", "[0,8]") + "}";
const std::string kTwiceInside = R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

INSTANTIATE_TEST_SUITE_P(
    Safetensors, MalformedFiles,
    testing::Values(
        Malformed{"Empty", "", "is empty"}, Malformed{"ShorterThanTheLength", "1234567", "has 7 bytes"},
        Malformed{"HeaderOver100MB", file_of("{}", "", 100'000'001), "exceeds the format's 100,000,000 bytes"},
        Malformed{"HeaderLengthOverflows", file_of("{}", "", std::numeric_limits<uint64_t>::max()), "exceeds the format's"},
        Malformed{"HeaderLongerThanTheFile", file_of("{}", "", 3), "header length 3 exceeds the file"},
        Malformed{"HeaderEmpty", file_of("", ""), "does not start with '{'"},
        Malformed{"HeaderStartsWithABlank", file_of(" {}", ""), "does not start with '{'"},
        Malformed{"HeaderIsAnArray", file_of("[]", ""), "does not start with '{'"},
        Malformed{"HeaderCutOff", file_of("{\"a\":", ""), "JSON cannot be parsed"},
        Malformed{"TextAfterTheJson", file_of("{}x", ""), "JSON cannot be parsed"},
        Malformed{"NulAfterTheJson", file_of(std::string("{}\0x", 4), ""), "NUL byte"},
        Malformed{"NotUtf8", file_of("{\"\xFF\":1}", ""), "JSON cannot be parsed"},
        Malformed{"KeyTwice", file_of(kTwice, kEightBytes), "the key \"a\" twice"},
        Malformed{"KeyTwiceInside", file_of(kTwiceInside, kEightBytes), "the key \"dtype\" twice"},
        Malformed{"NestedTooDeep", file_of(R"({"a":{"shape":[[2]]}})", ""), "nested deeper than 3"},
        Malformed{"NestedVeryDeep", file_of("{\"a\":" + std::string(100'000, '['), ""), "nested deeper than 3"},
        Malformed{"MetadataNotAnObject", file_of(R"({"__metadata__":"x"})", ""), "__metadata__ must be an object"},
        Malformed{"MetadataNotText", file_of(R"({"__metadata__":{"x":1}})", ""), "must be a string"},
        Malformed{"EntryNotAnObject", file_of(R"({"a":1})", ""), "a JSON object"},
        Malformed{"DtypeMissing", file_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", kEightBytes), "\"dtype\" is missing"},
        Malformed{"DtypeUnknown", file_of("{" + entry("a", "[0,8]", "[2]", "F31") + "}", kEightBytes), "dtype \"F31\" is not supported"},
        Malformed{"DtypeNotOurs", file_of("{" + entry("a", "[0,8]", "[8]", "F8_E4M3") + "}", kEightBytes),
                  "dtype \"F8_E4M3\" is not supported"},
        Malformed{"ShapeNotAnArray", file_of("{" + entry("a", "[0,8]", "2") + "}", kEightBytes), "shape must be an array"},
        Malformed{"ShapeNegative", file_of("{" + entry("a", "[0,8]", "[-2]") + "}", kEightBytes), "shape must be a whole number"},
        Malformed{"ShapeOverflows", file_of("{" + entry("a", "[0,8]", "[4294967296,4294967296]") + "}", kEightBytes), "exceeds 63 bits"},
        Malformed{"BytesOverflow", file_of("{" + entry("a", "[0,8]", "[4611686018427387904]") + "}", kEightBytes), "exceeds 63 bits"},
        Malformed{"SizeMismatch", file_of("{" + entry("a", "[0,8]", "[3]") + "}", kEightBytes), "need 12"},
        Malformed{"OneOffset", file_of("{" + entry("a", "[8]") + "}", kEightBytes), "two are needed"},
        Malformed{"ThreeOffsets", file_of("{" + entry("a", "[0,8,8]") + "}", kEightBytes), "two are needed"},
        Malformed{"OffsetNegative", file_of("{" + entry("a", "[-8,0]") + "}", kEightBytes), "data_offsets must be a whole number"},
        Malformed{"OffsetFloat", file_of("{" + entry("a", "[0,8.0]") + "}", kEightBytes), "data_offsets must be a whole number"},
        Malformed{"OffsetText", file_of("{" + entry("a", "[0,\"8\"]") + "}", kEightBytes), "data_offsets must be a whole number"},
        Malformed{"OffsetBeyond63Bits", file_of("{" + entry("a", "[0,9223372036854775808]") + "}", kEightBytes), "must be a whole number"},
        Malformed{"OffsetsReversed", file_of("{" + entry("a", "[8,0]") + "}", kEightBytes), "do not lie in the file's 8 bytes"},
        Malformed{"OffsetsBeyondTheFile", file_of("{" + entry("a", "[0,8]") + "}", "short"), "do not lie in the file's 5 bytes"},
        Malformed{"Overlap", file_of("{" + entry("a", "[0,8]") + "," + entry("b", "[4,12]") + "}", std::string(12, 'x')), "\"b\" overlaps"},
        Malformed{"SameRangeTwice", file_of("{" + entry("a", "[0,8]") + "," + entry("b", "[0,8]") + "}", kEightBytes), "overlaps"},
        Malformed{"HoleAtTheStart", file_of("{" + entry("a", "[4,12]") + "}", std::string(12, 'x')), "hole of 4 bytes before tensor \"a\""},
        Malformed{"HoleInside", file_of("{" + entry("a", "[0,8]") + "," + entry("b", "[9,17]") + "}", std::string(17, 'x')),
                  "hole of 1 bytes"},
        Malformed{"EmptyTensorInsideAnother", file_of("{" + entry("a", "[0,8]") + "," + entry("b", "[4,4]", "[0]") + "}", kEightBytes),
                  "\"b\" overlaps"},
        Malformed{"TrailingBytes", file_of("{" + entry("a", "[0,8]") + "}", kEightBytes + "y"), "1 bytes after the last tensor"}),
    [](const auto& info) { return info.param.name; });

TEST(Safetensors, AcceptsTensorsInAnyOrderOfTheHeader) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "order.safetensors";
  write_content(path, file_of("{" + entry("a", "[8,16]") + "," + entry("b", "[0,8]") + "," + entry("c", "[8,8]", "[0]") + "}  ",
                              std::string(8, '\0') + std::string("\0\0\x80\x3F\0\0\0\x40", 8)));
  EXPECT_TRUE(at::equal(SafetensorsFile(path).read("a"), at::tensor({1.0F, 2.0F})));
}

TEST(Safetensors, RefusesEveryTruncation) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "cut.safetensors";
  write_safetensors(path, {{"a", at::ones({3})}, {"b", at::ones({2}, at::kBFloat16)}});
  const std::string whole = read_content(path);
  for (size_t length = 0; length < whole.size(); ++length) {
    write_content(path, whole.substr(0, length));
    EXPECT_THROW(SafetensorsFile file(path), UserError) << length << " bytes";
  }
}

TEST(Safetensors, RefusesWhatIsNoRegularFile) {
  const TemporaryFolder folder;
  EXPECT_NE(message_of<UserError>([&] { SafetensorsFile file(folder.path()); }).find("is a folder"), std::string::npos);
  EXPECT_NE(message_of<UserError>([&] { SafetensorsFile file(folder.path() / "absent"); }).find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
