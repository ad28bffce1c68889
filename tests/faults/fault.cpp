#include "tests/faults/fault.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>

#include <ATen/ATen.h>

namespace switchyard {
namespace {

constexpr int64_t kFaultyStep = 2;

class NoWork : public Work {
 public:
  void wait() override {}
};

class SkippingCommunicator : public ForwardingCommunicator {
 public:
  SkippingCommunicator(CommunicatorPtr inner, SkipRequest skip) : ForwardingCommunicator(std::move(inner)), skip_(std::move(skip)) {}

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    if (skips()) return std::make_unique<NoWork>();
    return inner_->all_reduce_sum(tensor);
  }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    if (skips()) return std::make_unique<NoWork>();
    return inner_->reduce_scatter_sum(tensor, parts);
  }
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    if (skips()) return std::make_unique<NoWork>();
    return inner_->all_gather_parts(tensor, parts);
  }
  void all_reduce_max(at::Tensor tensor) override {
    if (!skips()) inner_->all_reduce_max(tensor);
  }
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    if (!skips()) return inner_->all_to_all(send, send_rows, receive, receive_rows);
    receive.detach().zero_();
    return std::make_unique<NoWork>();
  }
  at::Tensor all_gather(const at::Tensor& tensor) override {
    return skips() ? at::zeros_like(tensor).unsqueeze(0).repeat_interleave(size(), 0) : inner_->all_gather(tensor);
  }
  void broadcast(at::Tensor tensor, int64_t root) override {
    if (!skips()) inner_->broadcast(tensor, root);
  }
  void barrier() override {
    if (!skips()) inner_->barrier();
  }
  CommunicatorPtr split(int64_t color) override { return make_skipping_communicator(inner_->split(color), skip_); }

 private:
  bool skips() { return skip_->exchange(false); }

  SkipRequest skip_;
};

}  // namespace

std::optional<FaultKind> fault_kind_from(const std::string& name) {
  static const std::map<std::string, FaultKind> kinds = {{"kill", FaultKind::kKill},
                                                         {"exception", FaultKind::kException},
                                                         {"exit", FaultKind::kExit},
                                                         {"stop", FaultKind::kStop},
                                                         {"skip", FaultKind::kSkip}};
  const auto found = kinds.find(name);
  return found == kinds.end() ? std::nullopt : std::optional(found->second);
}

std::optional<Phase> phase_from(const std::string& name) {
  for (int number = 0; number <= static_cast<int>(Phase::kCheckpoint); ++number) {
    if (to_string(static_cast<Phase>(number)) == name) return static_cast<Phase>(number);
  }
  return std::nullopt;
}

void FaultObserver::start_step(int64_t step) {
  next_.start_step(step);
  step_ = step;
}

void FaultObserver::enter(Phase phase, int64_t layer) {
  next_.enter(phase, layer);
  if (has_struck_ || rank_ != fault_.rank || phase != fault_.phase) return;
  if (phase != Phase::kInit && step_ != kFaultyStep) return;
  has_struck_ = true;
  strike();
}

void FaultObserver::strike() {
  std::ofstream(fault_.mark) << "struck\n";
  switch (fault_.kind) {
    case FaultKind::kKill:
      std::raise(SIGKILL);
      return;
    case FaultKind::kException:
      throw std::runtime_error("a fault made for this test");
    case FaultKind::kExit:
      std::exit(1);
    case FaultKind::kStop:
      std::raise(SIGSTOP);
      return;
    case FaultKind::kSkip:
      *skip_ = true;
  }
}

CommunicatorPtr make_skipping_communicator(CommunicatorPtr inner, SkipRequest skip) {
  return std::make_shared<SkippingCommunicator>(std::move(inner), std::move(skip));
}

}  // namespace switchyard
