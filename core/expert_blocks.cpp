// Experts on a CPU: every thread takes a block of rows through both products, so that what lies between them stays in its cache.
#include <algorithm>
#include <functional>

#include <ATen/ATen.h>

#include "core/activation.h"
#include "core/alignment.h"
#include "core/dispatcher.h"
#include "core/expert_computation.h"
#include "core/kernels/addition_kernels.h"
#include "core/parallel_tasks.h"

namespace switchyard {
namespace {

/// A thread gets at least this many shares of a whole, so that who finishes early can take one more.
constexpr int64_t kSharesOfThread = 3;
/// Fewer rows would slow a product down.
constexpr int64_t kLeastBlockRows = 256;
static_assert(kLeastBlockRows % kRowMultiple == 0);

bool uses_threads() {
  return at::get_num_threads() > 1;
}

/// Of `work` in all, the most that a thread should take at once.
int64_t share_of_thread(int64_t work) {
  return work / (kSharesOfThread * at::get_num_threads());
}

/// Blocks for the threads, the longest first, so that what comes last is short; with one thread nothing is gained by cutting. A row has
/// the same bits in a block of any size that is a multiple of kRowMultiple.
std::vector<RowBlock> blocks_for_threads(const std::vector<int64_t>& row_counts_e, int64_t num_rows) {
  if (!uses_threads()) return row_blocks(row_counts_e);
  auto blocks = row_blocks(row_counts_e, std::max(kLeastBlockRows, padded_rows(share_of_thread(num_rows))));
  std::ranges::stable_sort(blocks, std::greater{}, &RowBlock::rows);
  return blocks;
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
    } else {
      kernels::add_product(place_OI, grad_out_OR, in_RI);
    }
  }

  /// Undefined where there is a sum.
  const at::Tensor& for_autograd() const { return whole_eOI_; }

 private:
  at::Tensor sum_eOI_, whole_eOI_;
};

/// grad_out^T in for every expert.
struct StackedProduct {
  StackedGradient& gradient;
  at::Tensor grad_out_RO, in_RI;
};

/// Some rows of an expert's matrix.
struct GradientTask {
  const StackedProduct* product;
  RowBlock expert;
  int64_t begin, count;

  int64_t work() const { return expert.rows * count * product->in_RI.size(1); }
  void run() const {
    const auto part = [this](const at::Tensor& whole) { return whole.narrow(0, expert.first, expert.rows); };
    product->gradient.take(expert.expert, part(product->grad_out_RO), part(product->in_RI), begin, count);
  }
};

/// The rows of a matrix are independent of each other, so that threads may share those of an expert with a great load.
std::vector<GradientTask> gradient_tasks(const std::vector<StackedProduct>& products, const std::vector<int64_t>& row_counts_e) {
  std::vector<GradientTask> whole, tasks;
  int64_t work = 0;
  for (const auto& product : products) {
    for (const auto& expert : row_blocks(row_counts_e)) {
      whole.push_back({&product, expert, 0, product.grad_out_RO.size(1)});
      work += whole.back().work();
    }
  }
  for (const auto& task : whole) {
    int64_t parts = 1;
    while (uses_threads() && task.work() / parts > share_of_thread(work) && task.count % (2 * parts * kRowMultiple) == 0) parts *= 2;
    const int64_t count = task.count / parts;
    for (int64_t part = 0; part < parts; ++part) tasks.push_back({task.product, task.expert, part * count, count});
  }
  std::ranges::stable_sort(tasks, std::greater{}, &GradientTask::work);
  return tasks;
}

void add_products(const std::vector<StackedProduct>& products, const std::vector<int64_t>& row_counts_e) {
  const auto tasks = gradient_tasks(products, row_counts_e);
  for_each_task(static_cast<int64_t>(tasks.size()), [&](int64_t task) { tasks[task].run(); });
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
  const auto blocks = blocks_for_threads(computation.row_counts_e, computation.x_RD.size(0));
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
  const auto blocks = blocks_for_threads(row_counts_e, computation.x_RD.size(0));
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
  add_products({{up_weights, grad_up_RW, computation.x_RD}, {down_weights, grad_y_RD, activation_RF}}, row_counts_e);
  return {grad_x_RD, up_weights.for_autograd(), down_weights.for_autograd(), sums_by_expert(weights.up_bias_eW, grad_up_RW, row_counts_e),
          sums_by_expert(weights.down_bias_eD, grad_y_RD, row_counts_e)};
}

}  // namespace switchyard
