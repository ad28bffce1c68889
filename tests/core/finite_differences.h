// Gradients by central differences, the outside witness for every hand-written backward.
#pragma once

#include <functional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace switchyard {

/// (f(x + h) - f(x - h)) / 2h, one element of x after the other. x: float64.
inline at::Tensor central_differences(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x, double step = 1e-6) {
  auto gradient = at::zeros_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    auto above = x.detach().clone(), below = x.detach().clone();
    above.view(-1)[i] += step;
    below.view(-1)[i] -= step;
    gradient.view(-1)[i] = (f(above) - f(below)).item<double>() / (2 * step);
  }
  return gradient;
}

/// Backward of the scalar f at x against central differences.
inline void expect_gradient_matches(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x) {
  auto leaf = x.detach().clone().requires_grad_(true);
  f(leaf).backward();
  ASSERT_TRUE(leaf.grad().defined());
  const auto expected = central_differences(f, x);
  EXPECT_TRUE(at::allclose(leaf.grad(), expected, 1e-6, 1e-8)) << "backward\n" << leaf.grad() << "\nfinite differences\n" << expected;
}

}  // namespace switchyard
