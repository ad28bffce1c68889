#include "training/phase_timer.h"

namespace switchyard {

void PhaseTimer::start_step(int64_t step) {
  if (next_) next_->start_step(step);
  close_phase();
  seconds_.clear();
}

void PhaseTimer::enter(Phase phase, int64_t layer) {
  if (next_) next_->enter(phase, layer);
  close_phase();
  phase_ = phase;
}

const std::map<Phase, double>& PhaseTimer::end_step() {
  close_phase();
  return seconds_;
}

void PhaseTimer::close_phase() {
  const auto now = Clock::now();
  seconds_[phase_] += std::chrono::duration<double>(now - begin_).count();
  begin_ = now;
}

}  // namespace switchyard
