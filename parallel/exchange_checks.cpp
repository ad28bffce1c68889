#include "parallel/exchange_checks.h"

#include <numeric>

#include <ATen/ATen.h>

namespace switchyard {
namespace {

void check_row_counts(const char* side, const at::Tensor& tensor, const std::vector<int64_t>& rows, int64_t num_ranks) {
  TORCH_CHECK(static_cast<int64_t>(rows.size()) == num_ranks, "all_to_all: ", rows.size(), " ", side, " counts for ", num_ranks, " ranks");
  TORCH_CHECK(tensor.dim() >= 1, "all_to_all: the ", side, " tensor has no rows");
  const auto sum = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  TORCH_CHECK(sum == tensor.size(0), "all_to_all: the ", side, " counts add up to ", sum, ", the tensor has ", tensor.size(0), " rows");
}

}  // namespace

void check_contiguous(const char* operation, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined() && tensor.is_contiguous(), operation, ": the tensor must be contiguous");
}

void check_all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, const at::Tensor& receive,
                      const std::vector<int64_t>& receive_rows, int64_t num_ranks) {
  check_contiguous("all_to_all", send);
  check_contiguous("all_to_all", receive);
  check_row_counts("send", send, send_rows, num_ranks);
  check_row_counts("receive", receive, receive_rows, num_ranks);
  TORCH_CHECK(send.scalar_type() == receive.scalar_type() && send.sizes().slice(1) == receive.sizes().slice(1), "all_to_all: rows of ",
              send.scalar_type(), " ", send.sizes().slice(1), " do not fit rows of ", receive.scalar_type(), " ", receive.sizes().slice(1));
}

void check_parts(const char* operation, const at::Tensor& tensor, const std::vector<int64_t>& parts, int64_t num_ranks) {
  check_contiguous(operation, tensor);
  TORCH_CHECK(tensor.dim() == 1, operation, ": the tensor must have one dimension, this one has ", tensor.dim());
  const auto sum = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  TORCH_CHECK(static_cast<int64_t>(parts.size()) == num_ranks && sum == tensor.numel(), operation, ": ", parts.size(), " parts of ", sum,
              " elements in all for ", num_ranks, " ranks and a tensor of ", tensor.numel());
}

void check_root(int64_t root, int64_t num_ranks) {
  TORCH_CHECK(root >= 0 && root < num_ranks, "broadcast: there is no rank ", root, " among ", num_ranks);
}

}  // namespace switchyard
