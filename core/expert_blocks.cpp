// Experts on a CPU: every thread takes a block of rows through both products, so that what lies between them stays in its cache.
#include <algorithm>

#include <ATen/ATen.h>

#include "core/activation.h"
#include "core/alignment.h"
#include "core/dispatcher.h"
#include "core/expert_computation.h"
#include "core/parallel_tasks.h"

namespace switchyard {
namespace {

/// Rows that a thread takes at once, so that experts of any load keep all threads busy. A row has the same bits in a block of any size
/// that is a multiple of kRowMultiple.
constexpr int64_t kBlockRows = 256;
static_assert(kBlockRows % kRowMultiple == 0);

bool uses_threads() {
  return at::get_num_threads() > 1;
}

/// Blocks for the threads; with one thread nothing is gained by cutting.
std::vector<RowBlock> blocks_for_threads(const std::vector<int64_t>& row_counts_e) {
  return uses_threads() ? row_blocks(row_counts_e, kBlockRows) : row_blocks(row_counts_e);
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

/// grad_out^T in for every expert; the rows of a matrix are independent of each other, so that threads may share them.
void add_products(StackedGradient& gradient, const at::Tensor& grad_out_RO, const at::Tensor& in_RI,
                  const std::vector<int64_t>& row_counts_e) {
  const auto experts = row_blocks(row_counts_e);
  const int64_t O = grad_out_RO.size(1), parts = uses_threads() && O % (2 * kRowMultiple) == 0 ? 2 : 1;
  for_each_task(static_cast<int64_t>(experts.size()) * parts, [&](int64_t task) {
    const auto [expert, first, rows] = experts[task / parts];
    gradient.take(expert, grad_out_RO.narrow(0, first, rows), in_RI.narrow(0, first, rows), task % parts * (O / parts), O / parts);
  });
}

}  // namespace

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

at::Tensor sums_by_expert(const at::Tensor& bias_eO, const at::Tensor& grad_RO, const std::vector<int64_t>& row_counts_e) {
  if (!bias_eO.defined()) return {};
  auto sums_eO = at::zeros_like(bias_eO);
  for (const auto& [expert, first, rows] : row_blocks(row_counts_e)) sums_eO[expert].copy_(grad_RO.narrow(0, first, rows).sum(0));
  return sums_eO;
}

ExpertOutputs outputs_by_blocks(const ExpertComputation& computation) {
  const auto& weights = computation.weights;
  const auto options = computation.x_RD.options();
  ExpertOutputs outputs{at::empty_like(computation.x_RD), at::empty({computation.x_RD.size(0), weights.up_eWD.size(1)}, options)};
  const auto blocks = blocks_for_threads(computation.row_counts_e);
  for_each_task(static_cast<int64_t>(blocks.size()), [&](int64_t task) {
    const auto [expert, first, rows] = blocks[task];
    const auto part = [first = first, rows = rows](const at::Tensor& whole) { return whole.narrow(0, first, rows); };
    auto up = part(outputs.up_RW), y = part(outputs.y_RD);
    auto activation = at::empty({rows, weights.down_eDF.size(2)}, options);
    at::mm_out(up, part(computation.x_RD), weights.up_eWD[expert].t());
    if (weights.up_bias_eW.defined()) up.add_(weights.up_bias_eW[expert]);
    activation_out(activation, up, computation.activation);
    if (computation.dropout_RF.defined()) activation.mul_(part(computation.dropout_RF));
    at::mm_out(y, activation, weights.down_eDF[expert].t());
    if (weights.down_bias_eD.defined()) y.add_(weights.down_bias_eD[expert]);
  });
  return outputs;
}

ExpertGradients gradients_by_blocks(const ExpertComputation& computation, const at::Tensor& up_RW, const at::Tensor& grad_y_RD) {
  const auto& weights = computation.weights;
  const auto& row_counts_e = computation.row_counts_e;
  auto grad_x_RD = at::empty_like(computation.x_RD), grad_up_RW = at::empty_like(up_RW);
  auto activation_RF = at::empty({up_RW.size(0), weights.down_eDF.size(2)}, up_RW.options());
  const auto blocks = blocks_for_threads(row_counts_e);
  for_each_task(static_cast<int64_t>(blocks.size()), [&](int64_t task) {
    const auto [expert, first, rows] = blocks[task];
    const auto part = [first = first, rows = rows](const at::Tensor& whole) { return whole.narrow(0, first, rows); };
    auto activation = part(activation_RF), grad_up = part(grad_up_RW), grad_x = part(grad_x_RD);
    auto grad_activation = at::empty_like(activation);
    at::mm_out(grad_activation, part(grad_y_RD), weights.down_eDF[expert]);
    if (computation.dropout_RF.defined()) grad_activation.mul_(part(computation.dropout_RF));
    // Made again rather than kept: it costs a multiplication or two an element, and saves [R, F] a layer.
    activation_and_backward_out(activation, grad_up, grad_activation, part(up_RW), computation.activation);
    if (computation.dropout_RF.defined()) activation.mul_(part(computation.dropout_RF));
    at::mm_out(grad_x, grad_up, weights.up_eWD[expert]);
  });
  StackedGradient up_weights(weights.up_eWD, weights.up_sum_eWD, row_counts_e),
      down_weights(weights.down_eDF, weights.down_sum_eDF, row_counts_e);
  add_products(up_weights, grad_up_RW, computation.x_RD, row_counts_e);
  add_products(down_weights, grad_y_RD, activation_RF, row_counts_e);
  return {grad_x_RD, up_weights.for_autograd(), down_weights.for_autograd(), sums_by_expert(weights.up_bias_eW, grad_up_RW, row_counts_e),
          sums_by_expert(weights.down_bias_eD, grad_y_RD, row_counts_e)};
}

}  // namespace switchyard
