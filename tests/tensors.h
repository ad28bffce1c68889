// Tensors with given values, and their comparison.
#pragma once

#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace switchyard {

inline at::Tensor longs(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}

inline std::vector<int64_t> to_longs(const at::Tensor& tensor) {
  const auto flat = tensor.to(at::kLong).contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

/// To the bit, and of the same type.
inline void expect_equal(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_EQ(actual.scalar_type(), expected.scalar_type());
  EXPECT_TRUE(at::equal(actual, expected)) << "actual\n" << actual << "\nexpected\n" << expected;
}

}  // namespace switchyard
