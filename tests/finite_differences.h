// Checks a gradient against central differences in fp64.
#pragma once

#include <functional>

#include <gtest/gtest.h>

namespace switchyard {

/// `scalar_of` must compute a float64 scalar from x (float64, requires_grad). Every element of x is moved by +-1e-6.
inline void expect_gradient_matches_differences(const std::function<at::Tensor(const at::Tensor&)>& scalar_of, const at::Tensor& at_x) {
  constexpr double kStep = 1e-6, kTolerance = 1e-7;
  const auto x = at_x.detach().clone().requires_grad_();
  scalar_of(x).backward();
  ASSERT_TRUE(x.grad().defined());
  at::NoGradGuard no_grad;
  const auto analytic = x.grad().contiguous().view({-1});
  for (int64_t i = 0; i < x.numel(); ++i) {
    auto moved = x.detach().clone();
    auto flat = moved.view({-1});
    const double value = flat[i].item<double>();
    flat[i] = value + kStep;
    const double above = scalar_of(moved).item<double>();
    flat[i] = value - kStep;
    const double below = scalar_of(moved).item<double>();
    const double difference = (above - below) / (2 * kStep);
    EXPECT_NEAR(analytic[i].item<double>(), difference, kTolerance * std::max(1.0, std::abs(difference))) << "element " << i;
  }
}

}  // namespace switchyard
