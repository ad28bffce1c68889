// How far a rank has come, for the message that ends its job: where it stands, and in which call.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "core/phase_observer.h"

namespace switchyard {

struct Position {
  int64_t step = 0;                 ///< 0 = none has begun
  int64_t layer = -1;               ///< -1 = none in particular
  std::optional<Phase> phase = {};  ///< none before the first
};

/// "step 7, layer 1, dispatch"; empty before the first phase.
std::string to_string(const Position& position);

/// "step 7, layer 1, dispatch: message"
std::string at_position(const Position& position, const std::string& message);

/// Written by the thread that trains, read by the watchdog's.
class Progress : public PhaseObserver {
 public:
  using Clock = std::chrono::steady_clock;

  void start_step(int64_t step) override;
  void enter(Phase phase, int64_t layer) override;
  Position position() const;

  /// What the innermost call under way is and how long it has taken, if at `now` it should have returned.
  std::optional<std::string> overdue(Clock::time_point now) const;

 private:
  friend class BoundedCall;

  mutable std::mutex mutex_;
  Position position_;
  const class BoundedCall* innermost_ = nullptr;
};

/// How much longer than parallel.timeout_seconds a call may take before the watchdog ends the process: an exchange's own deadline, which
/// ends the job in better order, comes first.
inline constexpr std::chrono::seconds kCallGrace{2};
/// How long ending the job may take.
inline constexpr std::chrono::seconds kAbortLimit{3};

/// While it lives, this thread stands in a call that must return within `limit`, or the watchdog ends the process. They may be nested, on
/// one thread. progress: null = nobody watches. describe: called by the watchdog's thread.
class BoundedCall {
 public:
  BoundedCall(Progress* progress, std::chrono::milliseconds limit, std::function<std::string()> describe);
  BoundedCall(Progress* progress, std::chrono::milliseconds limit, const char* call);
  BoundedCall(const BoundedCall&) = delete;
  BoundedCall& operator=(const BoundedCall&) = delete;
  ~BoundedCall();

 private:
  friend class Progress;

  Progress* progress_;
  std::function<std::string()> describe_;
  std::chrono::milliseconds limit_;
  Progress::Clock::time_point begin_;
  const BoundedCall* outer_ = nullptr;
};

}  // namespace switchyard
