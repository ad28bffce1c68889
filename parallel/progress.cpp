#include "parallel/progress.h"

namespace switchyard {

std::string to_string(const Position& position) {
  if (!position.phase) return "";
  std::string text;
  if (position.step > 0) text += "step " + std::to_string(position.step) + ", ";
  if (position.layer >= 0) text += "layer " + std::to_string(position.layer) + ", ";
  return text + to_string(*position.phase);
}

std::string at_position(const Position& position, const std::string& message) {
  return position.phase ? to_string(position) + ": " + message : message;
}

void Progress::start_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  position_.step = step;
}

void Progress::enter(Phase phase, int64_t layer) {
  const std::lock_guard lock(mutex_);
  position_.phase = phase;
  position_.layer = layer;
}

Position Progress::position() const {
  const std::lock_guard lock(mutex_);
  return position_;
}

std::optional<std::string> Progress::overdue(Clock::time_point now) const {
  const std::lock_guard lock(mutex_);
  if (!innermost_ || now - innermost_->begin_ <= innermost_->limit_) return std::nullopt;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - innermost_->begin_).count();
  return at_position(position_, innermost_->describe_() + " has not returned after " + std::to_string(seconds) + " s");
}

BoundedCall::BoundedCall(Progress* progress, std::chrono::milliseconds limit, std::function<std::string()> describe)
    : progress_(progress), describe_(std::move(describe)), limit_(limit), begin_(Progress::Clock::now()) {
  if (!progress_) return;
  const std::lock_guard lock(progress_->mutex_);
  outer_ = progress_->innermost_;
  progress_->innermost_ = this;
}

BoundedCall::BoundedCall(Progress* progress, std::chrono::milliseconds limit, const char* call)
    : BoundedCall(progress, limit, [call] { return std::string(call); }) {}

BoundedCall::~BoundedCall() {
  if (!progress_) return;
  const std::lock_guard lock(progress_->mutex_);
  progress_->innermost_ = outer_;
}

}  // namespace switchyard
