#include "training/checkpoint.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"
#include "tests/training/file_content.h"
#include "tests/training/small_checkpoint.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

TEST(Checkpoint, ReadsAnyRangeWhateverThePiecesAre) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 5);
  const CheckpointReader reader(folder.path() / "step-5");
  // Pieces of matrix: [0, 7) and [7, 12).
  for (int64_t begin = 0; begin <= 12; ++begin) {
    for (int64_t end = begin; end <= 12; ++end) {
      at::Tensor range = at::full({end - begin}, -1.0, at::kDouble);
      reader.read("matrix", {4, 3}, begin, range);
      EXPECT_TRUE(at::equal(range, numbered(begin, end))) << begin << " to " << end;
    }
  }
  at::Tensor bias = at::zeros({2}, at::kBFloat16);
  reader.read("bias", {2}, 0, bias);
  EXPECT_TRUE(at::equal(bias, (at::arange(2) - 0.5).to(at::kBFloat16)));
}

TEST(Checkpoint, KeepsStepStateAndShapes) {
  const TemporaryFolder folder;
  const json state = {{"tokens", 7}, {"learning_rate", 0.1}, {"order", {3, 1, 2}}};
  const std::vector<TensorPiece> pieces = {{"empty", {0, 4}, 0, at::empty({0})}, {"scalar", {}, 0, at::full({}, 3.0)}};
  save_checkpoint(folder.path(), 3, pieces, state, kKeep, *make_single_communicator());
  const CheckpointReader reader(folder.path() / "step-3");
  EXPECT_EQ(reader.step(), 3);
  EXPECT_EQ(reader.state(), state);
  const std::map<std::string, std::vector<int64_t>> shapes = {{"empty", {0, 4}}, {"scalar", {}}};
  EXPECT_EQ(reader.tensors(), shapes);
  at::Tensor scalar = at::zeros({});
  reader.read("scalar", {}, 0, scalar);
  EXPECT_EQ(scalar.item<float>(), 3.0F);
  EXPECT_EQ(read_content(folder.path() / "latest"), "step-3\n");
}

TEST(Checkpoint, RefusesToReadAsAnotherTensorShapeOrDtype) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  const CheckpointReader reader(folder.path() / "step-1");
  const auto refusal = [&](const std::string& name, const std::vector<int64_t>& shape, at::ScalarType dtype) {
    return message_of<UserError>([&] { reader.read(name, shape, 0, at::zeros({2}, dtype)); });
  };
  EXPECT_NE(refusal("other", {2}, at::kDouble).find("\"other\" is not in the checkpoint"), std::string::npos);
  EXPECT_NE(refusal("matrix", {3, 4}, at::kDouble).find("has shape [4, 3]; [3, 4] is needed"), std::string::npos);
  EXPECT_NE(refusal("matrix", {4, 3}, at::kFloat).find("is stored as Double; Float is needed"), std::string::npos);
}

TEST(Checkpoint, NewestIsTheLastThatHoldsAndTheOthersAreNamed) {
  const TemporaryFolder folder;
  EXPECT_EQ(find_newest(folder.path() / "absent").newest, std::nullopt);
  for (const int64_t step : {1, 2, 10, 20, 30}) save_on_two_ranks(folder.path(), step, 0, /*keep=*/9);
  fs::remove(folder.path() / "step-30" / "manifest.json");
  flip_byte(folder.path() / "step-20" / "rank-00000.safetensors",
            read_content(folder.path() / "step-20" / "rank-00000.safetensors").size() - 1);
  const Found found = find_newest(folder.path());
  EXPECT_EQ(found.newest, folder.path() / "step-10");
  EXPECT_NE(found.warnings.find("step-30"), std::string::npos) << found.warnings;
  EXPECT_NE(found.warnings.find("step-20"), std::string::npos) << found.warnings;
  EXPECT_EQ(found.warnings.find("step-10"), std::string::npos) << found.warnings;
}

TEST(Checkpoint, FolderThatSaysAnotherStepIsPassedOver) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  fs::rename(folder.path() / "step-1", folder.path() / "step-9");
  const Found found = find_newest(folder.path());
  EXPECT_EQ(found.newest, std::nullopt);
  EXPECT_NE(found.warnings.find("its manifest says step 1"), std::string::npos);
}

TEST(Checkpoint, WhatADeadSaveLeavesIsNoCheckpointAndGoesAtTheNextSave) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  // Killed before the manifest, before the rename, while an old one was being removed, before `latest` was renamed.
  fs::create_directory(folder.path() / "step-2.tmp-00000000000000aa");
  write_content(folder.path() / "step-2.tmp-00000000000000aa" / "rank-00000.safetensors.tmp", "partial");
  fs::copy(folder.path() / "step-1", folder.path() / "step-3.tmp-00000000000000bb");
  fs::create_directory(folder.path() / "step-0.tmp-removed");
  write_content(folder.path() / "latest.tmp", "st");
  write_content(folder.path() / "notes.tmp", "of the user");
  const Found found = find_newest(folder.path());
  EXPECT_EQ(found.newest, folder.path() / "step-1");
  EXPECT_EQ(found.warnings, "");
  save_on_two_ranks(folder.path(), 4);
  const std::vector<std::string> expected = {"latest", "notes.tmp", "step-1", "step-4"};
  EXPECT_EQ(names_in(folder.path()), expected);
}

TEST(Checkpoint, OnlyTheNewestAreKept) {
  const TemporaryFolder folder;
  for (const int64_t step : {8, 9, 10, 11}) save_on_two_ranks(folder.path(), step, 0, /*keep=*/3);
  const std::vector<std::string> expected = {"latest", "step-10", "step-11", "step-9"};
  EXPECT_EQ(names_in(folder.path()), expected);
}

TEST(Checkpoint, BadOnesDoNotCountAsKept) {
  const TemporaryFolder folder;
  for (const int64_t step : {1, 2, 7}) save_on_two_ranks(folder.path(), step, 0, /*keep=*/9);
  fs::remove(folder.path() / "step-2" / "manifest.json");
  fs::remove(folder.path() / "step-7" / "manifest.json");  // newer than what is saved next: the run will replace it when it gets there
  save_on_two_ranks(folder.path(), 3);
  EXPECT_EQ(find_newest(folder.path()).newest, folder.path() / "step-3");
  EXPECT_TRUE(fs::exists(folder.path() / "step-1"));
  EXPECT_TRUE(fs::exists(folder.path() / "step-7"));
}

TEST(Checkpoint, GoodStepIsNotWrittenTwiceAndABadOneIsReplaced) {
  const TemporaryFolder folder;
  const auto first_element = [&] {
    at::Tensor element = at::zeros({1}, at::kDouble);
    CheckpointReader(folder.path() / "step-1").read("matrix", {4, 3}, 0, element);
    return element.item<double>();
  };
  save_on_two_ranks(folder.path(), 1, /*offset=*/100);
  save_on_two_ranks(folder.path(), 1, /*offset=*/200);
  EXPECT_EQ(first_element(), 100);
  fs::resize_file(folder.path() / "step-1" / "rank-00000.safetensors", 20);
  save_on_two_ranks(folder.path(), 1, /*offset=*/300);
  EXPECT_EQ(first_element(), 300);
  const std::vector<std::string> expected = {"latest", "step-1"};
  EXPECT_EQ(names_in(folder.path()), expected);
}

}  // namespace
}  // namespace switchyard
