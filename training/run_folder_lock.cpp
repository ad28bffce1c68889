#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "training/checkpoint.h"
#include "training/file_descriptor.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPollInterval(50);
constexpr size_t kMaxHolderBytes = 512;

[[noreturn]] void throw_lock_error(const std::filesystem::path& path, const std::string& action) {
  throw UserError(path.string() + ": cannot " + action + ": " + std::generic_category().message(errno));
}

std::string describe_this_process() {
  char host[256] = {};
  if (::gethostname(host, sizeof(host) - 1) != 0) return "process " + std::to_string(::getpid());
  return "process " + std::to_string(::getpid()) + " on host " + host;
}

std::string read_holder(int descriptor) {
  char text[kMaxHolderBytes];
  const ssize_t size = ::pread(descriptor, text, sizeof(text), 0);
  return size > 0 ? std::string(text, static_cast<size_t>(size)) : "an unknown process";
}

/// For the message of the next one who comes; the lock itself is the kernel's.
void write_holder(int descriptor, const std::filesystem::path& path) {
  const std::string holder = describe_this_process();
  const bool is_written =
      ::ftruncate(descriptor, 0) == 0 && ::pwrite(descriptor, holder.data(), holder.size(), 0) == static_cast<ssize_t>(holder.size());
  if (!is_written) throw_lock_error(path, "write");
}

/// False when somebody else still held the lock at the deadline.
bool wait_for_lock(int descriptor, Clock::time_point deadline, const std::filesystem::path& path) {
  while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) throw_lock_error(path, "lock");
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

}  // namespace

RunFolderLock::RunFolderLock(const std::filesystem::path& run_folder, double wait_seconds) {
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wait_seconds));
  const std::filesystem::path path = run_folder / ".lock";
  FileDescriptor descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!descriptor.is_open()) throw_lock_error(path, "open");
  if (!wait_for_lock(descriptor.get(), deadline, path)) {
    throw UserError(run_folder.string() + ": another job writes this run folder: " + read_holder(descriptor.get()) +
                    "; wait until it has ended, or choose another folder with --run");
  }
  write_holder(descriptor.get(), path);
  descriptor_ = descriptor.release();
}

RunFolderLock::~RunFolderLock() {
  ::close(descriptor_);
}

}  // namespace switchyard
