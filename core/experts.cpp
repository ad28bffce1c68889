#include "core/experts.h"

#include "core/alignment.h"
#include "core/swiglu.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// Calls body(expert, first row, padded number of rows) for every expert that has rows.
template <class Body>
void for_each_expert(const std::vector<int64_t>& row_counts_e, Body body) {
  int64_t first = 0;
  for (size_t expert = 0; expert < row_counts_e.size(); ++expert) {
    const int64_t rows = padded_rows(row_counts_e[expert]);
    if (rows > 0) body(static_cast<int64_t>(expert), first, rows);
    first += rows;
  }
}

/// Zeros of the weights' shape in which every expert's matrix starts at an aligned place, as it does in a chunk of its own: elsewhere
/// the matrix products take other kernels, and give other bits.
at::Tensor aligned_zeros(const at::Tensor& weights_eRC) {
  const int64_t e = weights_eRC.size(0), numel = weights_eRC.size(1) * weights_eRC.size(2);
  return at::zeros({e, aligned_numel(numel, weights_eRC.scalar_type())}, weights_eRC.options())
      .narrow(1, 0, numel)
      .view(weights_eRC.sizes());
}

struct ApplyExperts : torch::autograd::Function<ApplyExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, const at::Tensor& gate_up_e2FD, const at::Tensor& down_eDF,
                            const std::vector<int64_t>& row_counts_e) {
    const int64_t R = x_RD.size(0), F = down_eDF.size(2);
    auto gate_up_R2F = at::empty({R, 2 * F}, x_RD.options());
    auto activation_RF = at::empty({R, F}, x_RD.options());
    auto y_RD = at::empty_like(x_RD);
    for_each_expert(row_counts_e, [&](int64_t expert, int64_t first, int64_t rows) {
      auto gate_up = gate_up_R2F.narrow(0, first, rows);
      auto activation = activation_RF.narrow(0, first, rows);
      auto y = y_RD.narrow(0, first, rows);
      at::mm_out(gate_up, x_RD.narrow(0, first, rows), gate_up_e2FD[expert].t());
      swiglu_out(activation, gate_up);
      at::mm_out(y, activation, down_eDF[expert].t());
    });
    context->save_for_backward({x_RD, gate_up_e2FD, down_eDF, gate_up_R2F, activation_RF});
    context->saved_data["row_counts"] = row_counts_e;
    return y_RD;
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &x_RD = saved[0], &gate_up_e2FD = saved[1], &down_eDF = saved[2], &gate_up_R2F = saved[3], &activation_RF = saved[4];
    const auto row_counts_e = context->saved_data["row_counts"].toIntVector();
    const auto grad_y_RD = grads[0].contiguous();
    auto grad_x_RD = at::empty_like(x_RD);
    auto grad_activation_RF = at::empty_like(activation_RF);
    auto grad_gate_up_R2F = at::empty_like(gate_up_R2F);
    auto grad_gate_up_e2FD = aligned_zeros(gate_up_e2FD);
    auto grad_down_eDF = aligned_zeros(down_eDF);
    for_each_expert(row_counts_e, [&](int64_t expert, int64_t first, int64_t rows) {
      const auto grad_y = grad_y_RD.narrow(0, first, rows);
      auto grad_activation = grad_activation_RF.narrow(0, first, rows);
      auto grad_gate_up = grad_gate_up_R2F.narrow(0, first, rows);
      auto grad_x = grad_x_RD.narrow(0, first, rows);
      auto grad_down = grad_down_eDF[expert];
      auto grad_gate_up_weight = grad_gate_up_e2FD[expert];
      at::mm_out(grad_activation, grad_y, down_eDF[expert]);
      at::mm_out(grad_down, grad_y.t(), activation_RF.narrow(0, first, rows));
      swiglu_backward_out(grad_gate_up, grad_activation, gate_up_R2F.narrow(0, first, rows));
      at::mm_out(grad_x, grad_gate_up, gate_up_e2FD[expert]);
      at::mm_out(grad_gate_up_weight, grad_gate_up.t(), x_RD.narrow(0, first, rows));
    });
    return {grad_x_RD, grad_gate_up_e2FD, grad_down_eDF, {}};
  }
};

}  // namespace

at::Tensor apply_experts(const ExpertRows& input, const at::Tensor& gate_up_e2FD, const at::Tensor& down_eDF) {
  int64_t rows = 0;
  for (const int64_t count : input.row_counts_e) rows += padded_rows(count);
  TORCH_CHECK(static_cast<int64_t>(input.row_counts_e.size()) == down_eDF.size(0) && input.rows_RD.size(0) == rows,
              "apply_experts: ", input.row_counts_e.size(), " counts with ", rows, " padded rows, ", down_eDF.size(0), " experts with ",
              input.rows_RD.size(0), " rows");
  return ApplyExperts::apply(input.rows_RD, gate_up_e2FD, down_eDF, input.row_counts_e);
}

ExpertsImpl::ExpertsImpl(int64_t num_local_experts, int64_t hidden_size, int64_t ffn_hidden_size)
    : gate_up_e2FD_(register_parameter("gate_up", at::empty({num_local_experts, 2 * ffn_hidden_size, hidden_size}))),
      down_eDF_(register_parameter("down", at::empty({num_local_experts, hidden_size, ffn_hidden_size}))) {}

std::vector<ExpertWeights> ExpertsImpl::in_chunks(const std::vector<int64_t>& chunk_starts) const {
  if (chunk_starts.size() == 2) return {{gate_up_e2FD_, down_eDF_}};
  std::vector<int64_t> sizes;
  for (size_t c = 0; c + 1 < chunk_starts.size(); ++c) sizes.push_back(chunk_starts[c + 1] - chunk_starts[c]);
  // One node, whose backward puts the chunks' gradients together without adding.
  const auto gate_up = gate_up_e2FD_.split_with_sizes(sizes), down = down_eDF_.split_with_sizes(sizes);
  std::vector<ExpertWeights> chunks;
  for (size_t c = 0; c < sizes.size(); ++c) chunks.push_back({gate_up[c], down[c]});
  return chunks;
}

}  // namespace switchyard
