// A communicator for tensors that lie on another device than the one it exchanges.
#pragma once

#include <ATen/ATen.h>

#include "parallel/forwarding_communicator.h"

namespace switchyard {

/// Brings what an exchange has left on the other device back to the tensor that stands for it.
class BringingWork : public Work {
 public:
  BringingWork(std::unique_ptr<Work> inner, at::Tensor there, at::Tensor here)
      : inner_(std::move(inner)), there_(std::move(there)), here_(std::move(here)) {}
  ~BringingWork() override {
    if (inner_) bring();
  }
  void wait() override {
    TORCH_CHECK(inner_, "Work::wait: called twice");
    bring();
  }

 private:
  void bring() {
    std::exchange(inner_, nullptr)->wait();
    here_.detach().copy_(there_);
  }

  std::unique_ptr<Work> inner_;
  at::Tensor there_, here_;
};

/// Takes tensors to `device`, where `inner` exchanges them, and back.
class ElsewhereCommunicator : public ForwardingCommunicator {
 public:
  ElsewhereCommunicator(CommunicatorPtr inner, at::Device device) : ForwardingCommunicator(std::move(inner)), device_(device) {}

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    const auto copy = there(tensor);
    return std::make_unique<BringingWork>(inner_->all_reduce_sum(copy), copy, tensor);
  }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    const auto copy = there(tensor);
    return std::make_unique<BringingWork>(inner_->reduce_scatter_sum(copy, parts), copy, tensor);
  }
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    const auto copy = there(tensor);
    return std::make_unique<BringingWork>(inner_->all_gather_parts(copy, parts), copy, tensor);
  }
  void all_reduce_max(at::Tensor tensor) override {
    const auto copy = there(tensor);
    inner_->all_reduce_max(copy);
    tensor.copy_(copy);
  }
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    const auto copy = there(receive);
    return std::make_unique<BringingWork>(inner_->all_to_all(there(send), send_rows, copy, receive_rows), copy, receive);
  }
  at::Tensor all_gather(const at::Tensor& tensor) override { return inner_->all_gather(there(tensor)).to(tensor.device()); }
  void broadcast(at::Tensor tensor, int64_t root) override {
    const auto copy = there(tensor);
    inner_->broadcast(copy, root);
    tensor.copy_(copy);
  }
  CommunicatorPtr split(int64_t color) override { return std::make_shared<ElsewhereCommunicator>(inner_->split(color), device_); }

 private:
  at::Tensor there(const at::Tensor& tensor) const { return tensor.detach().to(device_); }

  at::Device device_;
};

}  // namespace switchyard
