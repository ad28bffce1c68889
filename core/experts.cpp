#include "core/experts.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "core/activation.h"
#include "core/alignment.h"
#include "core/gradient_room.h"
#include "core/parallel_tasks.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// Consecutive rows of one expert.
struct RowBlock {
  int64_t expert = 0, first = 0, rows = 0;
};

/// Rows that a thread takes at once, so that experts of any load keep all threads busy. A row has the same bits in a block of any size
/// that is a multiple of kRowMultiple.
constexpr int64_t kBlockRows = 256;
static_assert(kBlockRows % kRowMultiple == 0);

/// All rows, padding too, in blocks of at most `most`, those of an expert about equally long.
std::vector<RowBlock> row_blocks(const std::vector<int64_t>& row_counts_e, int64_t most) {
  std::vector<RowBlock> blocks;
  int64_t first = 0;
  for (size_t expert = 0; expert < row_counts_e.size(); ++expert) {
    const int64_t all = padded_rows(row_counts_e[expert]), num_blocks = (all - 1) / most + 1;
    const int64_t size = padded_rows((all + num_blocks - 1) / num_blocks);
    for (int64_t left = all; left > 0; left -= blocks.back().rows, first += blocks.back().rows) {
      blocks.push_back({static_cast<int64_t>(expert), first, std::min(left, size)});
    }
  }
  return blocks;
}

/// Every expert that has rows as one block.
std::vector<RowBlock> whole_experts(const std::vector<int64_t>& row_counts_e) {
  return row_blocks(row_counts_e, std::numeric_limits<int64_t>::max());
}

/// Blocks for the threads of a CPU; elsewhere, and with one thread, nothing is gained by cutting.
std::vector<RowBlock> blocks_for_threads(const std::vector<int64_t>& row_counts_e, bool on_threads) {
  return on_threads ? row_blocks(row_counts_e, kBlockRows) : whole_experts(row_counts_e);
}

bool uses_threads(const at::Tensor& x) {
  return x.is_cpu() && at::get_num_threads() > 1;
}

/// The gradient of stacked weights, expert by expert: added to a sum, or a tensor of its own for autograd.
class StackedGradient {
 public:
  /// sum_eOI: undefined = none. Every expert's matrix starts at an aligned place, as it does in a chunk of its own: elsewhere the matrix
  /// products take other kernels, and give other bits.
  StackedGradient(const at::Tensor& weights_eOI, const at::Tensor& sum_eOI, const std::vector<int64_t>& row_counts_e) : sum_eOI_(sum_eOI) {
    if (sum_eOI.defined()) return;
    const int64_t e = weights_eOI.size(0), numel = weights_eOI.size(1) * weights_eOI.size(2);
    whole_eOI_ = at::empty({e, aligned_numel(numel, weights_eOI.scalar_type())}, weights_eOI.options())
                     .narrow(1, 0, numel)
                     .view(weights_eOI.sizes());
    for (int64_t expert = 0; expert < e; ++expert) {
      if (row_counts_e[expert] == 0) whole_eOI_[expert].zero_();
    }
  }

  /// Takes grad_out^T in; of that, only the rows [begin, begin + count) of the expert's matrix.
  void take(int64_t expert, const at::Tensor& grad_out_RO, const at::Tensor& in_RI, int64_t begin, int64_t count) {
    auto place_OI = (sum_eOI_.defined() ? sum_eOI_ : whole_eOI_)[expert].narrow(0, begin, count);
    const auto grad_out_OR = grad_out_RO.narrow(1, begin, count).t();
    if (!sum_eOI_.defined()) {
      at::mm_out(place_OI, grad_out_OR, in_RI);
    } else if (place_OI.scalar_type() == in_RI.scalar_type()) {
      place_OI.addmm_(grad_out_OR, in_RI);
    } else {
      place_OI.add_(at::mm(grad_out_OR, in_RI));
    }
  }

  /// Undefined where there is a sum.
  const at::Tensor& for_autograd() const { return whole_eOI_; }

 private:
  at::Tensor sum_eOI_, whole_eOI_;
};

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
    const auto up_bias_eW = up_bias.value_or(at::Tensor()), down_bias_eD = down_bias.value_or(at::Tensor()),
               dropout_RF = dropout.value_or(at::Tensor());
    const int64_t R = x_RD.size(0);
    auto up_RW = at::empty({R, up_eWD.size(1)}, x_RD.options());
    auto y_RD = at::empty_like(x_RD);
    const bool on_threads = uses_threads(x_RD);
    const auto blocks = blocks_for_threads(row_counts_e, on_threads);
    for_each_task(static_cast<int64_t>(blocks.size()), on_threads, [&](int64_t task) {
      const auto [expert, first, rows] = blocks[task];
      auto up = up_RW.narrow(0, first, rows), y = y_RD.narrow(0, first, rows);
      auto activation = at::empty({rows, down_eDF.size(2)}, x_RD.options());
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
    // Not saved as variables, whose versions must not change: every backward adds to them.
    context->saved_data["up_sum"] = up_sum.value_or(at::Tensor());
    context->saved_data["down_sum"] = down_sum.value_or(at::Tensor());
    return y_RD;
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &x_RD = saved[0], &up_eWD = saved[1], &down_eDF = saved[2], &dropout_RF = saved[5], &up_RW = saved[6];
    const auto row_counts_e = context->saved_data["row_counts"].toIntVector();
    const auto kind = static_cast<Activation>(context->saved_data["kind"].toInt());
    const auto grad_y_RD = grads[0].contiguous();
    auto grad_x_RD = at::empty_like(x_RD);
    auto activation_RF = at::empty({x_RD.size(0), down_eDF.size(2)}, x_RD.options()), grad_up_RW = at::empty_like(up_RW);
    const bool on_threads = uses_threads(x_RD);
    const auto blocks = blocks_for_threads(row_counts_e, on_threads);
    for_each_task(static_cast<int64_t>(blocks.size()), on_threads, [&](int64_t task) {
      const auto [expert, first, rows] = blocks[task];
      const auto part = [first = first, rows = rows](const at::Tensor& whole) { return whole.narrow(0, first, rows); };
      auto activation = part(activation_RF), grad_up = part(grad_up_RW), grad_x = part(grad_x_RD);
      auto grad_activation = at::empty_like(activation);
      at::mm_out(grad_activation, part(grad_y_RD), down_eDF[expert]);
      if (dropout_RF.defined()) grad_activation.mul_(part(dropout_RF));
      // Made again rather than kept: it costs a multiplication or two an element, and saves [R, F] a layer.
      activation_and_backward_out(activation, grad_up, grad_activation, part(up_RW), kind);
      if (dropout_RF.defined()) activation.mul_(part(dropout_RF));
      at::mm_out(grad_x, grad_up, up_eWD[expert]);
    });
    StackedGradient up_weights(up_eWD, context->saved_data["up_sum"].toTensor(), row_counts_e),
        down_weights(down_eDF, context->saved_data["down_sum"].toTensor(), row_counts_e);
    add_products(up_weights, grad_up_RW, x_RD, row_counts_e, on_threads);
    add_products(down_weights, grad_y_RD, activation_RF, row_counts_e, on_threads);
    return {grad_x_RD,
            up_weights.for_autograd(),
            down_weights.for_autograd(),
            sums_by_expert(saved[3], grad_up_RW, row_counts_e),
            sums_by_expert(saved[4], grad_y_RD, row_counts_e),
            {},
            {},
            {},
            {},
            {}};
  }

 private:
  /// grad_out^T in for every expert; the rows of a matrix are independent of each other, so that threads may share them.
  static void add_products(StackedGradient& gradient, const at::Tensor& grad_out_RO, const at::Tensor& in_RI,
                           const std::vector<int64_t>& row_counts_e, bool on_threads) {
    const auto experts = whole_experts(row_counts_e);
    const int64_t O = grad_out_RO.size(1), parts = on_threads && O % (2 * kRowMultiple) == 0 ? 2 : 1;
    for_each_task(static_cast<int64_t>(experts.size()) * parts, on_threads, [&](int64_t task) {
      const auto [expert, first, rows] = experts[task / parts];
      gradient.take(expert, grad_out_RO.narrow(0, first, rows), in_RI.narrow(0, first, rows), task % parts * (O / parts), O / parts);
    });
  }

  /// The gradient of a bias; undefined where there is none.
  static at::Tensor sums_by_expert(const at::Tensor& bias, const at::Tensor& grad_RO, const std::vector<int64_t>& row_counts_e) {
    if (!bias.defined()) return {};
    auto sums = at::zeros_like(bias);
    for (const auto& [expert, first, rows] : whole_experts(row_counts_e)) sums[expert].copy_(grad_RO.narrow(0, first, rows).sum(0));
    return sums;
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
