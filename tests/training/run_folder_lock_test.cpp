#include <chrono>
#include <csignal>
#include <functional>
#include <optional>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "tests/temporary_folder.h"
#include "tests/training/file_content.h"
#include "training/checkpoint.h"

namespace switchyard {
namespace {

/// Another process that holds the lock of `folder` for `seconds`, or until it is killed.
class Holder {
 public:
  Holder(const std::filesystem::path& folder, unsigned seconds) {
    int pipe_ends[2];
    if (::pipe(pipe_ends) != 0) throw std::runtime_error("pipe");
    child_ = ::fork();
    if (child_ == 0) hold(folder, seconds, pipe_ends[1]);
    ::close(pipe_ends[1]);
    char is_held = 0;
    EXPECT_EQ(::read(pipe_ends[0], &is_held, 1), 1);
    ::close(pipe_ends[0]);
  }
  ~Holder() { kill(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  pid_t pid() const { return child_; }
  void kill() {
    if (child_ == 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }

 private:
  [[noreturn]] static void hold(const std::filesystem::path& folder, unsigned seconds, int pipe_end) {
    const RunFolderLock lock(folder, 0);
    if (::write(pipe_end, "h", 1) != 1) ::_exit(1);
    ::sleep(seconds);
    ::_exit(0);
  }

  pid_t child_ = 0;
};

TEST(RunFolderLock, KeepsASecondJobOutAndNamesTheFirst) {
  const TemporaryFolder folder;
  const Holder holder(folder.path(), 60);
  const auto message = message_of<UserError>([&] { RunFolderLock lock(folder.path(), 0.1); });
  EXPECT_NE(
      message.find(folder.path().string() + ": another job writes this run folder: process " + std::to_string(holder.pid()) + " on host "),
      std::string::npos)
      << message;
}

TEST(RunFolderLock, IsFreeAfterItsHolderWasKilled) {
  const TemporaryFolder folder;
  Holder holder(folder.path(), 60);
  holder.kill();
  EXPECT_NO_THROW(RunFolderLock lock(folder.path(), 0));
}

TEST(RunFolderLock, WaitsForTheLastJobToEnd) {
  const TemporaryFolder folder;
  const Holder holder(folder.path(), 1);
  EXPECT_NO_THROW(RunFolderLock lock(folder.path(), 60));
}

TEST(RunFolderLock, EndsWithItsObject) {
  const TemporaryFolder folder;
  std::optional<RunFolderLock> lock;
  lock.emplace(folder.path(), 0);
  EXPECT_THROW(RunFolderLock second(folder.path(), 0), UserError);
  lock.reset();
  EXPECT_NO_THROW(RunFolderLock third(folder.path(), 0));
}

TEST(RunFolderLock, SaysWhyItCannotBeTaken) {
  const TemporaryFolder folder;
  const auto message = message_of<UserError>([&] { RunFolderLock lock(folder.path() / "absent", 0); });
  EXPECT_NE(message.find("absent/.lock: cannot open: No such file or directory"), std::string::npos) << message;
}

}  // namespace
}  // namespace switchyard
