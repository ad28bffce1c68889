#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/temporary_folder.h"
#include "tests/training/small_checkpoint.h"
#include "training/checkpoint.h"

namespace switchyard {
namespace {

constexpr int kNumKills = 30;
constexpr int64_t kNumel = 1 << 16;

/// Saves the steps from `first_step` on until it is killed, and tells each that has been committed through the pipe. Its tensor is full of
/// the step's number.
[[noreturn]] void save_until_killed(const std::filesystem::path& folder, int64_t first_step, int pipe_end) {
  at::set_num_threads(1);  // the parent's other threads do not live on in a forked process
  const auto world = make_single_communicator();
  for (int64_t step = first_step;; ++step) {
    save_checkpoint(folder, step, {{"weights", {kNumel}, 0, at::full({kNumel}, static_cast<double>(step))}}, {}, kKeep, *world);
    if (::write(pipe_end, &step, sizeof(step)) != sizeof(step)) ::_exit(1);
  }
}

/// Lets a process save until its first save has been committed, and kills it after `share` of the time that this took once more: on a fast
/// machine and on a busy one alike, somewhere in a save. Returns the last step that it had reported.
int64_t last_step_before_a_kill(const std::filesystem::path& folder, int64_t last_step, double share) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) throw std::runtime_error("pipe");
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) save_until_killed(folder, last_step + 1, pipe_ends[1]);
  ::close(pipe_ends[1]);
  EXPECT_EQ(::read(pipe_ends[0], &last_step, sizeof(last_step)), sizeof(last_step)) << "the first save failed";
  std::this_thread::sleep_for(share * (std::chrono::steady_clock::now() - start));
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the saving process ended by itself";
  while (::read(pipe_ends[0], &last_step, sizeof(last_step)) == sizeof(last_step)) {
  }
  ::close(pipe_ends[0]);
  return last_step;
}

TEST(KilledSave, NeverLosesTheNewestCommittedCheckpoint) {
  const TemporaryFolder folder;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> share(0.0, 3.0);
  int64_t last_step = 0;
  int num_leftovers = 0;
  for (int kill = 0; kill < kNumKills; ++kill) {
    const int64_t committed = last_step_before_a_kill(folder.path(), last_step, share(random));
    const Found found = find_newest(folder.path());
    EXPECT_EQ(found.warnings, "");
    ASSERT_TRUE(found.newest) << "after step " << committed;
    const CheckpointReader reader(*found.newest);
    // The save that was killed may have been committed and not yet reported.
    ASSERT_TRUE(reader.step() == committed || reader.step() == committed + 1) << reader.step() << " after " << committed;
    at::Tensor weights = at::zeros({kNumel});
    reader.read("weights", {kNumel}, 0, weights);
    ASSERT_TRUE(at::equal(weights, at::full({kNumel}, static_cast<double>(reader.step()))));
    last_step = reader.step();
    for (const std::string& name : names_in(folder.path())) num_leftovers += name.find("tmp") != std::string::npos;
  }
  EXPECT_GT(num_leftovers, 0) << "no kill hit a save under way";
}

}  // namespace
}  // namespace switchyard
