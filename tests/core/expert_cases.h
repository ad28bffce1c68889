// Experts as a GPU computes them against blocks of rows on the CPU.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/activation.h"
#include "core/dtypes.h"
#include "core/expert_computation.h"
#include "tests/tiny_models.h"

namespace switchyard {

/// Four experts of width 16 in 8 dimensions, one without rows; with sums where gradients are added, or without. Padding rows are zero, as
/// are their gradients.
struct ExpertCase {
  ExpertCase(Activation kind, bool with_sums, at::ScalarType dtype, at::Device device) {
    const int64_t D = 8, F = 16, W = up_width(kind, F);
    uint64_t seed = 0;
    const auto random = [&](at::IntArrayRef sizes) { return normal(sizes, ++seed, dtype).to(device); };
    auto is_real_R = at::zeros({80, 1}, at::kBool);
    for (const auto& [first, count] : {std::pair{0, 16}, {16, 5}, {32, 33}}) is_real_R.narrow(0, first, count).fill_(true);
    const auto real = is_real_R.to(at::dtype(dtype).device(device));
    experts = {random({80, D}) * real,
               {random({4, W, D}), random({4, D, F}), random({4, W}), random({4, D})},
               random({80, F}),
               {16, 5, 0, 33},
               kind};
    grad_y_RD = random({80, D}) * real;
    if (!with_sums) return;
    // As in flat storage: bf16 in fp32.
    const auto sum_dtype = wide_dtype(dtype);
    experts.weights.up_sum_eWD = random({4, W, D}).to(sum_dtype);
    experts.weights.down_sum_eDF = random({4, D, F}).to(sum_dtype);
  }

  ExpertComputation experts;
  at::Tensor grad_y_RD;
};

/// That the outputs and gradients by groups on `device` are those by blocks on the CPU, but for rounding.
inline void expect_groups_as_blocks(Activation kind, bool with_sums, at::ScalarType dtype, at::Device device) {
  const ExpertCase there(kind, with_sums, dtype, device), here(kind, with_sums, dtype, at::kCPU);
  const double tolerance = dtype == at::kDouble ? 1e-12 : dtype == at::kFloat ? 1e-5 : 2e-2;
  const auto expect_close = [&](const at::Tensor& actual, const at::Tensor& expected, const char* name) {
    ASSERT_EQ(actual.defined(), expected.defined()) << name;
    if (!actual.defined()) return;
    const auto difference = (actual.cpu().to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
    EXPECT_LE(difference, tolerance * expected.abs().max().item<double>()) << name << ", " << dtype;
  };
  const auto outputs = outputs_by_groups(there.experts), expected = outputs_by_blocks(here.experts);
  expect_close(outputs.y_RD, expected.y_RD, "y");
  expect_close(outputs.up_RW, expected.up_RW, "up");
  const auto gradients = gradients_by_groups(there.experts, outputs.up_RW, there.grad_y_RD);
  const auto expected_gradients = gradients_by_blocks(here.experts, expected.up_RW, here.grad_y_RD);
  expect_close(gradients.x_RD, expected_gradients.x_RD, "gradient of x");
  expect_close(gradients.up_eWD, expected_gradients.up_eWD, "gradient of up");
  expect_close(gradients.down_eDF, expected_gradients.down_eDF, "gradient of down");
  expect_close(gradients.up_bias_eW, expected_gradients.up_bias_eW, "gradient of up_bias");
  expect_close(gradients.down_bias_eD, expected_gradients.down_bias_eD, "gradient of down_bias");
  expect_close(there.experts.weights.up_sum_eWD, here.experts.weights.up_sum_eWD, "sum of up");
  expect_close(there.experts.weights.down_sum_eDF, here.experts.weights.down_sum_eDF, "sum of down");
}

}  // namespace switchyard
