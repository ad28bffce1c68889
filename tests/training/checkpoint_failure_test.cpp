#include <cmath>
#include <csignal>
#include <functional>
#include <limits>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "core/error.h"
#include "tests/temporary_folder.h"
#include "tests/training/file_content.h"
#include "tests/training/small_checkpoint.h"
#include "training/checkpoint.h"
#include "training/mapped_file.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Saves what `pieces_of` says and returns each rank's error.
std::vector<std::string> failures_of_save(const fs::path& folder, int64_t step,
                                          const std::function<std::vector<TensorPiece>(int64_t rank)>& pieces_of) {
  std::vector<std::string> messages(2);
  run_ranks_as_threads(2, [&](const CommunicatorPtr& world) {
    messages[static_cast<size_t>(world->rank())] =
        message_of<RunError>([&] { save_checkpoint(folder, step, pieces_of(world->rank()), {}, kKeep, *world); });
  });
  return messages;
}

/// After a failed save of step 2 on two ranks: both say `reason`, and only step 1 is there.
void expect_failed_on_all_ranks(const fs::path& folder, const std::vector<std::string>& messages, const std::string& reason) {
  for (const std::string& message : messages) EXPECT_NE(message.find(reason), std::string::npos) << message;
  EXPECT_EQ(messages[0], messages[1]);
  const std::vector<std::string> expected = {"latest", "step-1"};
  EXPECT_EQ(names_in(folder), expected);
  EXPECT_EQ(find_newest(folder).newest, folder / "step-1");
}

TEST(FailedSave, NonFiniteNumberOnOneRankFailsTheSaveOnAll) {
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    for (const double value : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -HUGE_VAL}) {
      const TemporaryFolder folder;
      save_on_two_ranks(folder.path(), 1);
      const auto messages = failures_of_save(folder.path(), 2, [&](int64_t rank) -> std::vector<TensorPiece> {
        at::Tensor half = at::ones({5000}, dtype);
        if (rank == 1) half[4500] = value;
        return {{"weights", {10000}, 5000 * rank, half}};
      });
      expect_failed_on_all_ranks(folder.path(), messages, "[rank 1/2] weights: element 9500 is not finite");
    }
  }
}

TEST(FailedSave, LargestFiniteNumbersAreSaved) {
  const TemporaryFolder folder;
  const std::vector<TensorPiece> pieces = {{"half", {1}, 0, at::full({1}, -65504.0, at::kHalf)},
                                           {"float", {1}, 0, at::full({1}, std::numeric_limits<float>::max())},
                                           {"long", {1}, 0, at::full({1}, -1, at::kLong)}};
  save_checkpoint(folder.path(), 1, pieces, {}, kKeep, *make_single_communicator());
  EXPECT_EQ(open_error(folder.path() / "step-1"), "no error");
}

TEST(FailedSave, NonFiniteNumberInTheStateIsNotSaved) {
  const TemporaryFolder folder;
  const auto world = make_single_communicator();
  const json state = {{"sums", {1.0, std::nan("")}}};
  const auto message = message_of<RunError>([&] { save_checkpoint(folder.path(), 1, {}, state, kKeep, *world); });
  EXPECT_NE(message.find("state/sums/1 is not a finite number"), std::string::npos) << message;
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(FailedSave, PiecesThatOverlapOrLeaveAHoleFailTheSaveOnAllRanks) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  const auto of_rank_1 = [&](int64_t begin, int64_t numel) {
    return failures_of_save(folder.path(), 2, [=](int64_t rank) -> std::vector<TensorPiece> {
      if (rank == 1) return {{"weights", {8}, begin, at::ones({numel})}};
      return {{"weights", {8}, 0, at::ones({4})}};
    });
  };
  expect_failed_on_all_ranks(folder.path(), of_rank_1(3, 5), "elements [3, 4) of tensor \"weights\" are in two pieces");
  expect_failed_on_all_ranks(folder.path(), of_rank_1(5, 3), "elements [4, 5) of tensor \"weights\" are in no piece");
  expect_failed_on_all_ranks(folder.path(), of_rank_1(4, 3), "elements [7, 8) of tensor \"weights\" are in no piece");
  expect_failed_on_all_ranks(folder.path(), of_rank_1(4, 5), "exceed the tensor's 8");
}

TEST(FailedSave, RankThatCannotWriteFailsTheSaveOnAllRanks) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {16384, before.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);  // else the process dies instead of seeing EFBIG
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto messages = failures_of_save(folder.path(), 2, [](int64_t rank) -> std::vector<TensorPiece> {
    const int64_t numel = rank == 1 ? 8192 : 8;  // only rank 1 exceeds the limit
    return {{"weights." + std::to_string(rank), {numel}, 0, at::ones({numel})}};
  });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  expect_failed_on_all_ranks(folder.path(), messages, "[rank 1/2] " + folder.path().string());
  EXPECT_NE(messages[0].find("rank-00001.safetensors.tmp: cannot write"), std::string::npos) << messages[0];
  EXPECT_NE(messages[0].find("File too large"), std::string::npos) << messages[0];
}

TEST(FailedSave, FolderThatCannotBeMadeFailsTheSaveOnAllRanks) {
  const TemporaryFolder folder;
  write_content(folder.path() / "occupied", "a file where the folder should be");
  const auto messages = failures_of_save(folder.path() / "occupied", 1, [](int64_t rank) { return pieces_of_rank(rank); });
  for (const std::string& message : messages)
    EXPECT_NE(message.find("cannot create the folder: File exists"), std::string::npos) << message;
}

TEST(FailedSave, MoreThanTheDiskHasIsRefusedBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path(), 1);
  // Tensors of that size that need neither memory nor disk: a file that is one hole, mapped.
  const auto free_bytes = static_cast<int64_t>(fs::space(folder.path()).available);
  const TemporaryFolder elsewhere;
  write_content(elsewhere.path() / "hole", "");
  fs::resize_file(elsewhere.path() / "hole", static_cast<uint64_t>(free_bytes));
  const MappedFile hole(elsewhere.path() / "hole");
  const auto messages = failures_of_save(folder.path(), 2, [&](int64_t rank) -> std::vector<TensorPiece> {
    const int64_t half = free_bytes / 2;
    return {{"weights", {2 * half}, rank * half, at::from_blob(const_cast<char*>(hole.data()), {half}, at::kByte)}};
  });
  expect_failed_on_all_ranks(folder.path(), messages, "MiB are free; a checkpoint of");
}

}  // namespace
}  // namespace switchyard
