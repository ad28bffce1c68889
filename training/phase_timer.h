// Where a step's time goes on this rank, phase by phase.
#pragma once

#include <chrono>
#include <map>

#include "core/phase_observer.h"

namespace switchyard {

/// Counts the seconds between one phase and the next, and passes everything on. Times are the host's: on a GPU, whose work the host only
/// starts, they show where the host waits. Waiting for other ranks counts to the phase that waits; what backward does of experts and
/// exchanges is backward.
class PhaseTimer : public PhaseObserver {
 public:
  /// next: is told everything too; null = nobody is.
  explicit PhaseTimer(PhaseObserver* next) : next_(next) {}

  void start_step(int64_t step) override;
  void enter(Phase phase, int64_t layer) override;

  /// Ends the phase under way. Seconds of this step by phase.
  const std::map<Phase, double>& end_step();

 private:
  using Clock = std::chrono::steady_clock;

  void close_phase();

  PhaseObserver* next_;
  std::map<Phase, double> seconds_;
  Phase phase_ = Phase::kInit;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace switchyard
