// A communicator over another one: everything is handed on but what a derived class does differently.
#pragma once

#include "parallel/communicator.h"

namespace switchyard {

class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(CommunicatorPtr inner) : inner_(std::move(inner)) {}

  int64_t rank() const override { return inner_->rank(); }
  int64_t size() const override { return inner_->size(); }
  int64_t node() const override { return inner_->node(); }
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override { return inner_->all_reduce_sum(tensor); }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    return inner_->reduce_scatter_sum(tensor, parts);
  }
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    return inner_->all_gather_parts(tensor, parts);
  }
  void all_reduce_max(at::Tensor tensor) override { inner_->all_reduce_max(tensor); }
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    return inner_->all_to_all(send, send_rows, receive, receive_rows);
  }
  at::Tensor all_gather(const at::Tensor& tensor) override { return inner_->all_gather(tensor); }
  void broadcast(at::Tensor tensor, int64_t root) override { inner_->broadcast(tensor, root); }
  void barrier() override { inner_->barrier(); }
  CommunicatorPtr split(int64_t color) override { return inner_->split(color); }
  void abort(int exit_code) override { inner_->abort(exit_code); }

 protected:
  CommunicatorPtr inner_;
};

}  // namespace switchyard
