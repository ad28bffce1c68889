#include <gtest/gtest.h>

#include "core/error.h"
#include "core/hash.h"
#include "tests/temporary_folder.h"
#include "tests/training/file_content.h"
#include "tests/training/small_checkpoint.h"
#include "training/checkpoint.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The manifest with another content and the checksum that fits it.
void rewrite_manifest(const fs::path& checkpoint, const std::function<void(json&)>& change) {
  const fs::path path = checkpoint / "manifest.json";
  json manifest = json::parse(read_content(path));
  manifest.erase("xxh3");
  change(manifest);
  std::string content = manifest.dump();
  content.pop_back();
  write_content(path, content + ",\n\"xxh3\":\"" + hex64(xxh3(content)) + "\"}\n");
}

TEST(DamagedCheckpoint, NamesFilePieceAndOffsetOfAFlippedByte) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  const fs::path damaged = folder.path() / "step-1" / "rank-00001.safetensors";
  const size_t size_bytes = read_content(damaged).size();
  flip_byte(damaged, size_bytes - 1);
  const std::string message = open_error(folder.path() / "step-1");
  EXPECT_NE(message.find(damaged.string()), std::string::npos) << message;
  EXPECT_NE(message.find("matrix[7:12]"), std::string::npos) << message;
  EXPECT_NE(message.find("bytes " + std::to_string(size_bytes - 40) + " to " + std::to_string(size_bytes)), std::string::npos) << message;
  // A reader of the undamaged piece alone goes on.
  at::Tensor range = at::zeros({7}, at::kDouble);
  CheckpointReader(folder.path() / "step-1").read("matrix", {4, 3}, 0, range);
  EXPECT_TRUE(at::equal(range, numbered(0, 7)));
}

TEST(DamagedCheckpoint, FindsEveryFlippedByteOrReadsTheSameNumbers) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  for (const std::string name : {"manifest.json", "rank-00000.safetensors", "rank-00001.safetensors"}) {
    const fs::path path = folder.path() / "step-1" / name;
    const std::string whole = read_content(path);
    for (size_t offset = 0; offset < whole.size(); ++offset) {
      flip_byte(path, offset);
      if (open_error(folder.path() / "step-1") == "no error") {
        at::Tensor matrix = at::zeros({4, 3}, at::kDouble);
        CheckpointReader(folder.path() / "step-1").read("matrix", {4, 3}, 0, matrix);
        EXPECT_TRUE(at::equal(matrix.flatten(), numbered(0, 12))) << name << " byte " << offset;
        // Only the header of a safetensors file has bytes without meaning: its padding and __metadata__.
        EXPECT_NE(name, "manifest.json") << "byte " << offset;
      }
      write_content(path, whole);
    }
  }
}

TEST(DamagedCheckpoint, FindsEveryTruncation) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  for (const std::string name : {"manifest.json", "rank-00001.safetensors"}) {
    const fs::path path = folder.path() / "step-1" / name;
    const std::string whole = read_content(path);
    for (size_t length = 0; length < whole.size(); ++length) {
      write_content(path, whole.substr(0, length));
      EXPECT_NE(open_error(folder.path() / "step-1").find(path.string()), std::string::npos) << length << " bytes";
    }
    write_content(path, whole);
  }
  EXPECT_EQ(open_error(folder.path() / "step-1"), "no error");
}

TEST(DamagedCheckpoint, NamesAMissingFileAndAMissingManifest) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  fs::remove(folder.path() / "step-1" / "rank-00001.safetensors");
  EXPECT_NE(open_error(folder.path() / "step-1").find("rank-00001.safetensors: cannot be read: No such file"), std::string::npos);
  fs::remove(folder.path() / "step-1" / "manifest.json");
  EXPECT_NE(open_error(folder.path() / "step-1").find("manifest.json: cannot be opened: No such file"), std::string::npos);
  EXPECT_NE(open_error(folder.path() / "step-2").find("no such checkpoint folder"), std::string::npos);
}

struct BadManifest {
  std::string name;
  std::function<void(json&)> change;
  std::string rule;
};

class BadManifests : public testing::TestWithParam<BadManifest> {};

TEST_P(BadManifests, AreRefusedWithTheRule) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  rewrite_manifest(folder.path() / "step-1", [](json&) {});
  ASSERT_EQ(open_error(folder.path() / "step-1"), "no error");
  rewrite_manifest(folder.path() / "step-1", GetParam().change);
  const std::string message = open_error(folder.path() / "step-1");
  EXPECT_NE(message.find(GetParam().rule), std::string::npos) << message;
}

// Pieces in the manifest: 0 is matrix[0:7], 1 is bias[0:2] (both of rank 0), 2 is matrix[7:12].
INSTANTIATE_TEST_SUITE_P(
    DamagedCheckpoint, BadManifests,
    testing::Values(
        BadManifest{"NewerFormat", [](json& m) { m["format_version"] = 2; }, "format_version is 2; this program reads 1"},
        BadManifest{"NoStep", [](json& m) { m.erase("step"); }, "\"step\" is missing"},
        BadManifest{"NoState", [](json& m) { m.erase("state"); }, "\"state\" is missing"},
        BadManifest{"NoPieces", [](json& m) { m.erase("pieces"); }, "\"pieces\" is missing"},
        BadManifest{"NoChecksum", [](json& m) { m["pieces"][1].erase("xxh3"); }, "\"bias\": has no checksum"},
        BadManifest{"EmptyChecksum", [](json& m) { m["pieces"][1]["xxh3"] = ""; }, "is not a checksum"},
        BadManifest{"WrongChecksum", [](json& m) { m["pieces"][1]["xxh3"] = "0123456789abcdef"; }, "do not match their checksum"},
        BadManifest{"Hole", [](json& m) { m["pieces"].erase(0); }, "elements [0, 7) of tensor \"matrix\" are in no piece"},
        BadManifest{"HoleAtTheEnd", [](json& m) { m["pieces"].erase(2); }, "elements [7, 12) of tensor \"matrix\" are in no piece"},
        BadManifest{"Overlap", [](json& m) { m["pieces"][2]["begin"] = 6; }, "elements [6, 7) of tensor \"matrix\" are in two pieces"},
        BadManifest{"BeyondTheTensor", [](json& m) { m["pieces"][2]["begin"] = 8; }, "exceed the tensor's 12"},
        BadManifest{"OtherShape",
                    [](json& m) {
                      m["pieces"][2]["global_shape"] = {3, 4};
                    },
                    "differ in dtype or global shape"},
        BadManifest{"OtherDtype", [](json& m) { m["pieces"][2]["dtype"] = "I64"; }, "differ in dtype or global shape"},
        BadManifest{"WrongLength", [](json& m) { m["pieces"][2]["length"] = 39; }, "length does not fit"},
        BadManifest{"WrongOffset", [](json& m) { m["pieces"][2]["offset"] = 0; }, "the manifest says"},
        BadManifest{"FileOutsideTheFolder", [](json& m) { m["pieces"][2]["file"] = "../x"; }, "is not a plain file name"},
        BadManifest{"FileOfAnotherRank", [](json& m) { m["pieces"][2]["file"] = "rank-00000.safetensors"; }, "the manifest says"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace switchyard
