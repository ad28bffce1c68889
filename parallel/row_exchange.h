// Rows on their way between ranks, with autograd, in two nodes: one starts the exchange, one waits for it. Backward runs the nodes in the
// reverse order, so the second starts the way back and the first waits for it: what lies between the two overlaps in both directions.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/ivalue.h>
#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"

namespace switchyard {

/// One exchange and the way back of its gradients.
class RowExchange : public torch::CustomClassHolder {
 public:
  /// Row counts by peer.
  RowExchange(CommunicatorPtr group, std::vector<int64_t> send_rows, std::vector<int64_t> receive_rows);

  /// Returns the rows to be: they are here once wait() has returned.
  at::Tensor start(const at::Tensor& rows);
  at::Tensor start_back(const at::Tensor& gradients);
  /// Waits for what was started last, and returns it.
  at::Tensor wait();

 private:
  at::Tensor start(const at::Tensor& rows, const std::vector<int64_t>& send_rows, const std::vector<int64_t>& receive_rows);

  CommunicatorPtr group_;
  std::vector<int64_t> send_rows_;
  std::vector<int64_t> receive_rows_;
  at::Tensor arriving_;
  std::unique_ptr<Work> work_;
};

using RowExchangePtr = c10::intrusive_ptr<RowExchange>;

/// Starts sending; the result must go to finish_exchange and nowhere else. Collective, and so is its backward.
at::Tensor begin_exchange(const at::Tensor& rows, const RowExchangePtr& exchange);

/// The received rows. Collective, and so is its backward.
at::Tensor finish_exchange(const at::Tensor& in_flight, const RowExchangePtr& exchange);

}  // namespace switchyard
