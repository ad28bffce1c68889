// The backstop for calls that no deadline reaches: MPI_Init while a rank is missing, MPI_Abort, MPI_Finalize, a write to a full pipe. Waits
// for exchanges have deadlines of their own, and computing may take as long as it likes.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/progress.h"

namespace switchyard {

/// A thread that looks at a rank's progress ten times a second.
class Watchdog {
 public:
  /// on_overdue is called on the watchdog's thread with one sentence, once: for the first call that is overdue.
  Watchdog(const Progress& progress, std::function<void(const std::string&)> on_overdue);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

 private:
  void run();

  const Progress& progress_;
  std::function<void(const std::string&)> on_overdue_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;
  std::thread thread_;  ///< last: it uses the members above
};

/// Writes the line to stderr where that does not block, and ends the process with exit code 1, with no destructor and no handler run.
[[noreturn]] void end_process(const std::string& line);

}  // namespace switchyard
