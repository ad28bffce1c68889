#include "parallel/row_exchange.h"

#include <numeric>

#include <torch/torch.h>

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

RowExchange& exchange_of(AutogradContext* context) {
  return static_cast<RowExchange&>(*context->saved_data["exchange"].toCapsule());
}

void keep_exchange(AutogradContext* context, const RowExchangePtr& exchange) {
  context->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
}

struct BeginExchange : torch::autograd::Function<BeginExchange> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const RowExchangePtr& exchange) {
    keep_exchange(context, exchange);
    return exchange->start(rows);
  }

  /// What comes down the graph is only a sign that FinishExchange has run; the gradients are under way.
  static variable_list backward(AutogradContext* context, variable_list /*sign*/) { return {exchange_of(context).wait(), {}}; }
};

struct FinishExchange : torch::autograd::Function<FinishExchange> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& in_flight, const RowExchangePtr& exchange) {
    keep_exchange(context, exchange);
    exchange->wait();
    return in_flight;
  }

  static variable_list backward(AutogradContext* context, variable_list grad) {
    exchange_of(context).start_back(grad[0].contiguous());
    return {grad[0], {}};
  }
};

}  // namespace

RowExchange::RowExchange(CommunicatorPtr group, std::vector<int64_t> send_rows, std::vector<int64_t> receive_rows)
    : group_(std::move(group)), send_rows_(std::move(send_rows)), receive_rows_(std::move(receive_rows)) {}

at::Tensor RowExchange::start(const at::Tensor& rows) {
  return start(rows, send_rows_, receive_rows_);
}

at::Tensor RowExchange::start_back(const at::Tensor& gradients) {
  return start(gradients, receive_rows_, send_rows_);
}

at::Tensor RowExchange::start(const at::Tensor& rows, const std::vector<int64_t>& send_rows, const std::vector<int64_t>& receive_rows) {
  TORCH_CHECK(!work_, "RowExchange: started before the last exchange was waited for");
  const auto num_arriving = std::accumulate(receive_rows.begin(), receive_rows.end(), int64_t{0});
  arriving_ = at::empty({num_arriving, rows.size(1)}, rows.options());
  work_ = group_->all_to_all(rows, send_rows, arriving_, receive_rows);
  return arriving_;
}

at::Tensor RowExchange::wait() {
  TORCH_CHECK(work_, "RowExchange: nothing to wait for");
  std::exchange(work_, nullptr)->wait();
  return std::exchange(arriving_, {});
}

at::Tensor begin_exchange(const at::Tensor& rows, const RowExchangePtr& exchange) {
  return BeginExchange::apply(rows, exchange);
}

at::Tensor finish_exchange(const at::Tensor& in_flight, const RowExchangePtr& exchange) {
  return FinishExchange::apply(in_flight, exchange);
}

}  // namespace switchyard
