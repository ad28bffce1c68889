// Where a step's time goes on this rank, phase by phase.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "core/phase_observer.h"

namespace switchyard {

/// Counts the seconds between one phase and the next, and passes everything on. Times are the host's: on a GPU, whose work the host only
/// starts, they show where the host waits. Waiting for other ranks counts to the phase that waits.
class PhaseTimer : public PhaseObserver {
 public:
  /// next: is told everything too; null = nobody is.
  explicit PhaseTimer(PhaseObserver* next) : next_(next) {}

  void start_step(int64_t step) override;
  void enter(Phase phase, int64_t layer) override;
  void enter_backward(Phase part, int64_t layer) override;

  /// Ends the phase under way. Seconds of this step by phase: "experts", "experts backward".
  const std::map<std::string, double>& end_step();

 private:
  using Clock = std::chrono::steady_clock;

  /// Counts to the phase under way, and begins `next`.
  void turn_to(std::string next);

  PhaseObserver* next_;
  std::map<std::string, double> seconds_;
  std::string phase_ = to_string(Phase::kInit);
  Clock::time_point begin_ = Clock::now();
};

}  // namespace switchyard
