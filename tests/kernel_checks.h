// How kernels are compared with exact results, and what each of them promises: a row's bits are its own.
#pragma once

#include <functional>
#include <limits>

#include <ATen/Parallel.h>

#include "tests/tiny_models.h"

namespace switchyard {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
inline const std::vector<at::ScalarType> kKernelDtypes = {at::kDouble, at::kFloat, at::kBFloat16};
inline const std::vector<int64_t> kKernelWidths = {1, 3, 7, 16, 17, 32, 33, 100};

/// What one rounding leaves between a result and the exact one, times `roundings`.
inline double tolerance(at::ScalarType dtype, double roundings) {
  const double unit = dtype == at::kDouble ? 0x1p-53 : dtype == at::kFloat ? 0x1p-24 : 0x1p-8;
  return roundings * unit;
}

/// `actual` against fp64. Of sums whose terms cancel, the largest element, or 1, says how exact the others can be.
inline void expect_near(const at::Tensor& actual, const at::Tensor& exact, double relative, double of_largest = 0.0) {
  ASSERT_EQ(actual.sizes(), exact.sizes());
  const double least = exact.numel() == 0 ? 0.0 : of_largest * std::max(1.0, exact.abs().max().item<double>());
  EXPECT_TRUE(at::allclose(actual.to(at::kDouble), exact, relative, least, /*equal_nan=*/true))
      << actual.scalar_type() << " " << actual.sizes() << ", largest difference " << (actual - exact).abs().max().item<double>();
}

/// To the bit. Every NaN is the same: its sign depends on which operand the compiler puts first.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const auto dtype = a.element_size() == 8 ? at::kLong : a.element_size() == 4 ? at::kInt : at::kShort;
  const auto bits = [dtype](const at::Tensor& x) { return x.masked_fill(x.isnan(), kNaN).contiguous().view(dtype); };
  return a.sizes() == b.sizes() && at::equal(bits(a), bits(b));
}

/// x in every second row of a buffer, one element off, so that neither strides nor addresses are round.
inline at::Tensor scattered(const at::Tensor& x_RD) {
  auto buffer = at::full({2 * x_RD.size(0) + 1, x_RD.size(1) + 3}, kNaN, x_RD.options());
  auto view = buffer.narrow(0, 0, 2 * x_RD.size(0)).view({x_RD.size(0), 2, -1}).select(1, 1).narrow(1, 1, x_RD.size(1));
  return view.copy_(x_RD);
}

/// What `compute` makes of many rows, of each row alone, of rows elsewhere and with two threads is the same to the bit.
inline void expect_rows_of_their_own(const at::Tensor& x_RD, const std::function<at::Tensor(const at::Tensor&)>& compute) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto y = compute(x_RD);
  EXPECT_TRUE(same_bits(compute(scattered(x_RD)), y));
  for (const int64_t r : {int64_t(0), x_RD.size(0) - 1}) EXPECT_TRUE(same_bits(compute(x_RD.narrow(0, r, 1))[0], y[r])) << "row " << r;
  at::set_num_threads(2);
  EXPECT_TRUE(same_bits(compute(x_RD), y));
  at::set_num_threads(threads);
}

}  // namespace switchyard
