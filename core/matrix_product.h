// One of many matrix products, and how BLAS is told of it.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// c_MN = a_MK b_KN, or that added to it. c_MN has contiguous rows; of the others each, or its transpose, has.
struct MatrixProduct {
  at::Tensor a_MK, b_KN, c_MN;
};

/// A matrix as BLAS sees it, by columns.
struct BlasOperand {
  bool is_transposed = false;
  int64_t leading = 0;  ///< elements from one column to the next
};

/// result = left right, all by columns. Contiguous rows are the columns of the transpose, so that it is c^T = b^T a^T.
struct BlasProduct {
  int64_t m = 0, n = 0, k = 0;
  BlasOperand left, right;
  int64_t result_leading = 0;
};

inline BlasOperand transposed_for_blas(const at::Tensor& matrix) {
  const bool has_contiguous_rows = matrix.stride(1) == 1 && matrix.stride(0) >= matrix.size(1);
  TORCH_CHECK(has_contiguous_rows || matrix.stride(0) == 1, "a matrix product takes contiguous rows or columns, got sizes ", matrix.sizes(),
              " and strides ", matrix.strides());
  return {!has_contiguous_rows, has_contiguous_rows ? matrix.stride(0) : std::max(matrix.stride(1), matrix.size(0))};
}

inline BlasProduct blas_product(const MatrixProduct& product) {
  const auto result = transposed_for_blas(product.c_MN);
  TORCH_CHECK(!result.is_transposed && product.a_MK.size(1) == product.b_KN.size(0) && product.c_MN.size(0) == product.a_MK.size(0) &&
                  product.c_MN.size(1) == product.b_KN.size(1),
              "matrix product: ", product.a_MK.sizes(), " times ", product.b_KN.sizes(), " into ", product.c_MN.sizes(), " of strides ",
              product.c_MN.strides());
  return {product.c_MN.size(1),
          product.c_MN.size(0),
          product.a_MK.size(1),
          transposed_for_blas(product.b_KN),
          transposed_for_blas(product.a_MK),
          result.leading};
}

}  // namespace switchyard
