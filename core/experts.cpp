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

/// The place in flat storage where an expert's gradient is summed, if each starts at an aligned one.
at::Tensor sum_in_flat_storage(const at::Tensor& weights_eOI) {
  const auto* room = gradient_room_of(weights_eOI);
  const int64_t numel = weights_eOI.size(1) * weights_eOI.size(2);
  return room != nullptr && numel == aligned_numel(numel, weights_eOI.scalar_type()) ? room->sum() : at::Tensor();
}

/// autograd's functions take undefined tensors in this form only.
using Optional = std::optional<at::Tensor>;

struct ApplyExperts : torch::autograd::Function<ApplyExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, const at::Tensor& up_eWD, const at::Tensor& down_eDF,
                            const Optional& up_bias, const Optional& down_bias, const Optional& dropout, const Optional& up_sum,
                            const Optional& down_sum, const std::vector<int64_t>& row_counts_e, int64_t kind) {
    const ExpertComputation computation{
        x_RD, {up_eWD, down_eDF, or_none(up_bias), or_none(down_bias)}, or_none(dropout), row_counts_e, static_cast<Activation>(kind)};
    const auto outputs = (x_RD.is_cuda() ? outputs_by_groups : outputs_by_blocks)(computation);
    context->save_for_backward(
        {x_RD, up_eWD, down_eDF, computation.weights.up_bias_eW, computation.weights.down_bias_eD, computation.dropout_RF, outputs.up_RW});
    context->saved_data["row_counts"] = row_counts_e;
    context->saved_data["kind"] = kind;
    // Not saved as variables, whose versions must not change: every backward adds to them.
    context->saved_data["up_sum"] = or_none(up_sum);
    context->saved_data["down_sum"] = or_none(down_sum);
    return outputs.y_RD;
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto sum = [&](const char* name) { return context->saved_data[name].toTensor(); };
    const ExpertComputation computation{saved[0],
                                        {saved[1], saved[2], saved[3], saved[4], {}, sum("up_sum"), sum("down_sum")},
                                        saved[5],
                                        context->saved_data["row_counts"].toIntVector(),
                                        static_cast<Activation>(context->saved_data["kind"].toInt())};
    const auto compute = saved[0].is_cuda() ? gradients_by_groups : gradients_by_blocks;
    const auto gradients = compute(computation, saved[6], grads[0].contiguous());
    return {gradients.x_RD, gradients.up_eWD, gradients.down_eDF, gradients.up_bias_eW, gradients.down_bias_eD, {}, {}, {}, {}, {}};
  }

 private:
  static at::Tensor or_none(const Optional& tensor) { return tensor.value_or(at::Tensor()); }
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
                             Optional(dropout_RF), Optional(weights.up_sum_eWD), Optional(weights.down_sum_eDF), input.row_counts_e,
                             static_cast<int64_t>(activation));
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
  auto whole = weights_;
  whole.up_sum_eWD = sum_in_flat_storage(whole.up_eWD);
  whole.down_sum_eDF = sum_in_flat_storage(whole.down_eDF);
  if (chunk_starts.size() == 2) return {whole};
  std::vector<int64_t> sizes;
  const int64_t inside = weights_.down_eDF.size(0) / chunk_starts.back();
  for (size_t c = 0; c + 1 < chunk_starts.size(); ++c) sizes.push_back((chunk_starts[c + 1] - chunk_starts[c]) * inside);
  const auto up = split(weights_.up_eWD, sizes), down = split(weights_.down_eDF, sizes);
  const auto up_bias = split(weights_.up_bias_eW, sizes), down_bias = split(weights_.down_bias_eD, sizes);
  const auto nested_router = split(weights_.nested_router_MD, sizes);
  const auto up_sum = split(whole.up_sum_eWD, sizes), down_sum = split(whole.down_sum_eDF, sizes);
  std::vector<ExpertWeights> chunks;
  for (size_t c = 0; c < sizes.size(); ++c)
    chunks.push_back({up[c], down[c], up_bias[c], down_bias[c], nested_router[c], up_sum[c], down_sum[c]});
  return chunks;
}

}  // namespace switchyard
