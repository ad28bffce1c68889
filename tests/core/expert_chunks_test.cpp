// Experts in chunks: a chunk's outputs and gradients are the bits of all experts at once, also at widths that fill no cache lines.
#include <gtest/gtest.h>

#include "core/experts.h"
#include "tests/tensors.h"

namespace switchyard {
namespace {

struct Outcome {
  at::Tensor y_RD, grad_x_RD, grad_gate_up_e2FD, grad_down_eDF;
};

/// Of experts whose rows are those given.
Outcome compute(const at::Tensor& x_RD, const at::Tensor& gate_up_e2FD, const at::Tensor& down_eDF, const at::Tensor& grad_y_RD,
                const std::vector<int64_t>& counts) {
  const auto leaf = [](const at::Tensor& tensor) { return tensor.detach().clone().requires_grad_(); };
  // Weights stay where they lie among those of all experts; only gradients have memory of their own.
  const auto x = leaf(x_RD), gate_up = gate_up_e2FD.detach().requires_grad_(), down = down_eDF.detach().requires_grad_();
  const auto y = apply_experts({x, counts}, {gate_up, down}, Activation::kSwiglu);
  y.backward(grad_y_RD.contiguous());
  return {y.detach(), x.grad(), gate_up.grad(), down.grad()};
}

TEST(ExpertChunks, HaveTheSameBitsAsAllExpertsAtOnceAtOddWidths) {
  const std::vector<int64_t> counts = {16, 5, 30, 0, 9};  // 16 + 16 + 32 + 0 + 16 rows with padding
  const int64_t R = 80, D = 11, F = 7, E = 5;
  at::manual_seed(1);
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto options = at::dtype(dtype);
    const auto x_RD = at::randn({R, D}, options), grad_y_RD = at::randn({R, D}, options);
    const auto gate_up_e2FD = at::randn({E, 2 * F, D}, options), down_eDF = at::randn({E, D, F}, options);
    const auto whole = compute(x_RD, gate_up_e2FD, down_eDF, grad_y_RD, counts);
    int64_t first = 0;
    for (int64_t e = 0; e < E; ++e) {
      const int64_t count = counts[static_cast<size_t>(e)], rows = padded_rows(count);
      const auto alone = compute(x_RD.narrow(0, first, rows), gate_up_e2FD.narrow(0, e, 1), down_eDF.narrow(0, e, 1),
                                 grad_y_RD.narrow(0, first, rows), {count});
      expect_equal(alone.y_RD, whole.y_RD.narrow(0, first, rows));
      expect_equal(alone.grad_x_RD, whole.grad_x_RD.narrow(0, first, rows));
      expect_equal(alone.grad_gate_up_e2FD, whole.grad_gate_up_e2FD.narrow(0, e, 1));
      expect_equal(alone.grad_down_eDF, whole.grad_down_eDF.narrow(0, e, 1));
      first += rows;
    }
  }
}

}  // namespace
}  // namespace switchyard
