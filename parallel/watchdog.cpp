#include "parallel/watchdog.h"

#include <algorithm>
#include <climits>

#include <poll.h>
#include <unistd.h>

namespace switchyard {
namespace {

constexpr std::chrono::milliseconds kPeriod{100};

}  // namespace

Watchdog::Watchdog(const Progress& progress, std::function<void(const std::string&)> on_overdue)
    : progress_(progress), on_overdue_(std::move(on_overdue)), thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::run() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kPeriod, [this] { return ends_; })) {
    const auto overdue = progress_.overdue(Progress::Clock::now());
    if (!overdue) continue;
    on_overdue_(*overdue);
    return;
  }
}

void end_process(const std::string& line) {
  const auto text = line + "\n";
  // A pipe that is ready takes PIPE_BUF bytes without blocking.
  pollfd screen{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&screen, 1, /*timeout=*/0) == 1) {
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
  }
  ::_exit(1);
}

}  // namespace switchyard
