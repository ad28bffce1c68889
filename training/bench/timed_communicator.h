// How long a rank stands still for the others.
#pragma once

#include <memory>

#include "parallel/forwarding_communicator.h"

namespace switchyard {

/// Adds the seconds that calls and waits take to `seconds`, which its split groups share.
class TimedCommunicator : public ForwardingCommunicator {
 public:
  TimedCommunicator(CommunicatorPtr inner, std::shared_ptr<double> seconds);

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override;
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override;
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override;
  void all_reduce_max(at::Tensor tensor) override;
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override;
  at::Tensor all_gather(const at::Tensor& tensor) override;
  void broadcast(at::Tensor tensor, int64_t root) override;
  void barrier() override;
  CommunicatorPtr split(int64_t color) override;

 private:
  std::shared_ptr<double> seconds_;
};

}  // namespace switchyard
