// Adding what products leave to the sums over them, which are of a wider dtype.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

/// sum += term, of the same shape; a term of a narrower dtype is widened element by element, without a copy of it on a CPU.
void add_to(at::Tensor sum, const at::Tensor& term);

/// sum_MN += a_MK b_KN, in one product where the dtypes are the same.
void add_product(at::Tensor sum_MN, const at::Tensor& a_MK, const at::Tensor& b_KN);

}  // namespace switchyard::kernels
