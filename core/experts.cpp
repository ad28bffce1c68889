#include "core/experts.h"

#include <algorithm>
#include <optional>

#include "core/activation.h"
#include "core/alignment.h"
#include "core/gradient_room.h"

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

/// Room for what one expert's rows become on the way, used by one expert after the other: it stays in the cache.
class Scratch {
 public:
  Scratch(const std::vector<int64_t>& row_counts_e, int64_t width, const at::TensorOptions& options) {
    int64_t most = 0;
    for (const int64_t count : row_counts_e) most = std::max(most, padded_rows(count));
    room_ = at::empty({most, width}, options);
  }
  at::Tensor rows(int64_t count) const { return room_.narrow(0, 0, count); }

 private:
  at::Tensor room_;
};

/// The gradient of stacked weights, expert by expert: summed where flat storage sums it, or a tensor for autograd.
class StackedGradient {
 public:
  StackedGradient(const at::Tensor& weights_eOI, const std::vector<int64_t>& row_counts_e) {
    const auto dtype = weights_eOI.scalar_type();
    const int64_t e = weights_eOI.size(0), numel = weights_eOI.size(1) * weights_eOI.size(2), room = aligned_numel(numel, dtype);
    // Every expert's matrix must start at an aligned place, as it does in a chunk of its own: elsewhere the matrix products take other
    // kernels, and give other bits.
    if (numel == room) flat_ = gradient_room_of(weights_eOI);
    if (flat_ != nullptr) {
      if (flat_->sum().scalar_type() != dtype) product_OI_ = at::empty({weights_eOI.size(1), weights_eOI.size(2)}, weights_eOI.options());
      return;
    }
    whole_eOI_ = at::empty({e, room}, weights_eOI.options()).narrow(1, 0, numel).view(weights_eOI.sizes());
    for (int64_t expert = 0; expert < e; ++expert) {
      if (row_counts_e[expert] == 0) whole_eOI_[expert].zero_();
    }
  }

  /// Takes grad_out^T in.
  void take(int64_t expert, const at::Tensor& grad_out_RO, const at::Tensor& in_RI) {
    auto place_OI = (flat_ != nullptr ? flat_->sum() : whole_eOI_)[expert];
    if (flat_ == nullptr) {
      at::mm_out(place_OI, grad_out_RO.t(), in_RI);
    } else if (product_OI_.defined()) {
      at::mm_out(product_OI_, grad_out_RO.t(), in_RI);
      place_OI.add_(product_OI_);
    } else {
      place_OI.addmm_(grad_out_RO.t(), in_RI);
    }
  }

  /// What autograd is given: nothing where the sum is in flat storage.
  const at::Tensor& for_autograd() const { return whole_eOI_; }

 private:
  GradientRoom* flat_ = nullptr;
  at::Tensor product_OI_;  ///< of a bf16 product, before it is added in fp32
  at::Tensor whole_eOI_;
};

at::Tensor zeros_or_none(const at::Tensor& weights) {
  return weights.defined() ? at::zeros_like(weights) : at::Tensor();
}

/// autograd's functions take undefined tensors in this form only.
using Optional = std::optional<at::Tensor>;

struct ApplyExperts : torch::autograd::Function<ApplyExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, const at::Tensor& up_eWD, const at::Tensor& down_eDF,
                            const Optional& up_bias, const Optional& down_bias, const Optional& dropout,
                            const std::vector<int64_t>& row_counts_e, int64_t kind) {
    const auto up_bias_eW = up_bias.value_or(at::Tensor()), down_bias_eD = down_bias.value_or(at::Tensor()),
               dropout_RF = dropout.value_or(at::Tensor());
    const int64_t R = x_RD.size(0);
    auto up_RW = at::empty({R, up_eWD.size(1)}, x_RD.options());
    const Scratch scratch(row_counts_e, down_eDF.size(2), x_RD.options());
    auto y_RD = at::empty_like(x_RD);
    for_each_expert(row_counts_e, [&](int64_t expert, int64_t first, int64_t rows) {
      auto up = up_RW.narrow(0, first, rows);
      auto activation = scratch.rows(rows);
      auto y = y_RD.narrow(0, first, rows);
      at::mm_out(up, x_RD.narrow(0, first, rows), up_eWD[expert].t());
      if (up_bias_eW.defined()) up.add_(up_bias_eW[expert]);
      activation_out(activation, up, static_cast<Activation>(kind));
      if (dropout_RF.defined()) activation.mul_(dropout_RF.narrow(0, first, rows));
      at::mm_out(y, activation, down_eDF[expert].t());
      if (down_bias_eD.defined()) y.add_(down_bias_eD[expert]);
    });
    context->save_for_backward({x_RD, up_eWD, down_eDF, up_bias_eW, down_bias_eD, dropout_RF, up_RW});
    context->saved_data["row_counts"] = row_counts_e;
    context->saved_data["kind"] = kind;
    return y_RD;
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &x_RD = saved[0], &up_eWD = saved[1], &down_eDF = saved[2], &dropout_RF = saved[5], &up_RW = saved[6];
    const auto row_counts_e = context->saved_data["row_counts"].toIntVector();
    const auto kind = static_cast<Activation>(context->saved_data["kind"].toInt());
    const auto grad_y_RD = grads[0].contiguous();
    auto grad_x_RD = at::empty_like(x_RD);
    const int64_t F = down_eDF.size(2);
    const Scratch activations(row_counts_e, F, x_RD.options()), grad_activations(row_counts_e, F, x_RD.options()),
        grad_ups(row_counts_e, up_RW.size(1), x_RD.options());
    StackedGradient grad_up_weights(up_eWD, row_counts_e), grad_down_weights(down_eDF, row_counts_e);
    auto grad_up_bias_eW = zeros_or_none(saved[3]), grad_down_bias_eD = zeros_or_none(saved[4]);
    for_each_expert(row_counts_e, [&](int64_t expert, int64_t first, int64_t rows) {
      const auto grad_y = grad_y_RD.narrow(0, first, rows);
      auto activation = activations.rows(rows), grad_activation = grad_activations.rows(rows), grad_up = grad_ups.rows(rows);
      auto grad_x = grad_x_RD.narrow(0, first, rows);
      at::mm_out(grad_activation, grad_y, down_eDF[expert]);
      if (dropout_RF.defined()) grad_activation.mul_(dropout_RF.narrow(0, first, rows));
      // Made again rather than kept: it costs a multiplication or two an element, and saves [R, F] a layer.
      activation_and_backward_out(activation, grad_up, grad_activation, up_RW.narrow(0, first, rows), kind);
      if (dropout_RF.defined()) activation.mul_(dropout_RF.narrow(0, first, rows));
      grad_down_weights.take(expert, grad_y, activation);
      at::mm_out(grad_x, grad_up, up_eWD[expert]);
      grad_up_weights.take(expert, grad_up, x_RD.narrow(0, first, rows));
      if (grad_up_bias_eW.defined()) grad_up_bias_eW[expert].copy_(grad_up.sum(0));
      if (grad_down_bias_eD.defined()) grad_down_bias_eD[expert].copy_(grad_y.sum(0));
    });
    return {grad_x_RD, grad_up_weights.for_autograd(), grad_down_weights.for_autograd(), grad_up_bias_eW, grad_down_bias_eD, {}, {}, {}};
  }
};

/// `tensor` by chunk, as one node, whose backward puts the chunks' gradients together without adding.
std::vector<at::Tensor> split(const at::Tensor& tensor, const std::vector<int64_t>& sizes) {
  return tensor.defined() ? tensor.split_with_sizes(sizes) : std::vector<at::Tensor>(sizes.size());
}

}  // namespace

at::Tensor apply_experts(const ExpertRows& input, const ExpertWeights& weights, Activation activation, const at::Tensor& dropout_RF) {
  int64_t rows = 0;
  for (const int64_t count : input.row_counts_e) rows += padded_rows(count);
  TORCH_CHECK(static_cast<int64_t>(input.row_counts_e.size()) == weights.down_eDF.size(0) && input.rows_RD.size(0) == rows,
              "apply_experts: ", input.row_counts_e.size(), " counts with ", rows, " padded rows, ", weights.down_eDF.size(0),
              " experts with ", input.rows_RD.size(0), " rows");
  return ApplyExperts::apply(input.rows_RD, weights.up_eWD, weights.down_eDF, Optional(weights.up_bias_eW), Optional(weights.down_bias_eD),
                             Optional(dropout_RF), input.row_counts_e, static_cast<int64_t>(activation));
}

ExpertsImpl::ExpertsImpl(int64_t num_local_experts, int64_t hidden_size, const MoeConfig& config) {
  const int64_t e = num_local_experts * std::max<int64_t>(config.nested_experts, 1), D = hidden_size, F = config.ffn_hidden_size,
                W = up_width(config.activation, F);
  const std::string up = is_gated(config.activation) ? "gate_up" : "up";
  weights_.up_eWD = register_parameter(up, at::empty({e, W, D}));
  weights_.down_eDF = register_parameter("down", at::empty({e, D, F}));
  if (config.nested_experts > 0) weights_.nested_router_MD = register_parameter("nested_router", at::empty({e, D}));
  if (!config.expert_bias) return;
  weights_.up_bias_eW = register_parameter(up + "_bias", at::empty({e, W}));
  weights_.down_bias_eD = register_parameter("down_bias", at::empty({e, D}));
}

std::vector<ExpertWeights> ExpertsImpl::in_chunks(const std::vector<int64_t>& chunk_starts) const {
  if (chunk_starts.size() == 2) return {weights_};
  std::vector<int64_t> sizes;
  const int64_t inside = weights_.down_eDF.size(0) / chunk_starts.back();
  for (size_t c = 0; c + 1 < chunk_starts.size(); ++c) sizes.push_back((chunk_starts[c + 1] - chunk_starts[c]) * inside);
  const auto up = split(weights_.up_eWD, sizes), down = split(weights_.down_eDF, sizes);
  const auto up_bias = split(weights_.up_bias_eW, sizes), down_bias = split(weights_.down_bias_eD, sizes);
  const auto nested_router = split(weights_.nested_router_MD, sizes);
  std::vector<ExpertWeights> chunks;
  for (size_t c = 0; c < sizes.size(); ++c) chunks.push_back({up[c], down[c], up_bias[c], down_bias[c], nested_router[c]});
  return chunks;
}

}  // namespace switchyard
