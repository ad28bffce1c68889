// A tensor as rows over its last dimension, wherever they lie.
#pragma once

#include <array>
#include <type_traits>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/kernels/inlined.h"

namespace switchyard::kernels {

/// CPU, and fp64, fp32 or bf16.
bool has_kernels(const at::Tensor& x);

/// x, or a copy of it whose rows are dense and lie as RowLayout can say.
at::Tensor with_dense_rows(const at::Tensor& x);

/// The dimensions of x as they lie in memory, the farthest apart first; the last dimension stays the last.
std::vector<int64_t> memory_order(const at::Tensor& x);

/// y from its y.permute(order).
at::Tensor permuted_back(const at::Tensor& permuted, const std::vector<int64_t>& order);

/// Where the rows of a tensor of one dimension or more lie: row r has the r-th index over all dimensions but the last.
struct RowLayout {
  static constexpr int64_t kMaxDimensions = 4;

  /// Errors: rows that are not dense, more than kMaxDimensions dimensions that do not fold.
  explicit RowLayout(const at::Tensor& x);
  static bool fits(const at::Tensor& x);

  /// Elements before row r.
  SWITCHYARD_INLINED int64_t offset(int64_t row) const {
    int64_t elements = 0;
    for (int64_t i = num_dimensions - 1; i > 0; --i) {
      elements += row % sizes[i] * strides[i];
      row /= sizes[i];
    }
    return elements + row * strides[0];
  }

  int64_t num_rows = 1, width = 0;
  int64_t num_dimensions = 0;  ///< but the last, after folding those that lie behind each other
  std::array<int64_t, kMaxDimensions> sizes = {}, strides = {};

 private:
  bool fold(const at::Tensor& x);
  RowLayout() = default;
};

/// scalar_t const for what is read.
template <typename scalar_t>
class Rows {
 public:
  explicit Rows(const at::Tensor& x) : layout_(x) {
    if constexpr (std::is_const_v<scalar_t>) {
      data_ = x.const_data_ptr<std::remove_const_t<scalar_t>>();
    } else {
      data_ = x.data_ptr<scalar_t>();
    }
  }
  SWITCHYARD_INLINED scalar_t* operator[](int64_t row) const { return data_ + layout_.offset(row); }
  SWITCHYARD_INLINED int64_t num_rows() const { return layout_.num_rows; }
  SWITCHYARD_INLINED int64_t width() const { return layout_.width; }

 private:
  scalar_t* data_ = nullptr;
  RowLayout layout_;
};

}  // namespace switchyard::kernels
