#include "training/phase_timer.h"

namespace switchyard {

void PhaseTimer::start_step(int64_t step) {
  if (next_) next_->start_step(step);
  turn_to(phase_);
  seconds_.clear();
}

void PhaseTimer::enter(Phase phase, int64_t layer) {
  if (next_) next_->enter(phase, layer);
  turn_to(to_string(phase));
}

void PhaseTimer::enter_backward(Phase part, int64_t layer) {
  if (next_) next_->enter_backward(part, layer);
  turn_to(std::string(to_string(part)) + " backward");
}

const std::map<std::string, double>& PhaseTimer::end_step() {
  turn_to(phase_);
  return seconds_;
}

void PhaseTimer::turn_to(std::string next) {
  const auto now = Clock::now();
  seconds_[phase_] += std::chrono::duration<double>(now - begin_).count();
  begin_ = now;
  phase_ = std::move(next);
}

}  // namespace switchyard
