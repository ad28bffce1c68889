// Many matrix products in one call of cuBLAS.
#pragma once

#include <vector>

#include "core/matrix_product.h"

namespace switchyard::cuda {

/// Whether at::_grouped_mm computes products of such tensors on their GPU in one kernel. Elsewhere it waits for the numbers of rows and
/// calls a product an expert.
bool has_grouped_kernel(const at::Tensor& tensor);

/// All of `products` (one or more, in fp64, fp32 or bf16, none empty), at once and without waiting. adds: to what stands in c_MN.
/// Source: cublasGemmGroupedBatchedEx, of CUDA 12.5 and later.
void multiply_all(const std::vector<MatrixProduct>& products, bool adds);

}  // namespace switchyard::cuda
