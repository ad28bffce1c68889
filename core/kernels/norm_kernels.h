// Root mean square norm in one pass forward and one backward. CPU; fp64, fp32, bf16 (computed in fp32). x [..., D], weight_D of x's dtype.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

struct NormForward {
  at::Tensor y;        ///< like x; it lies as x does
  at::Tensor scale_R;  ///< 1 / sqrt(mean(x^2) + eps) of every row in the order of memory, in max(fp32, dtype)
};

/// y = weight_D * normed, where normed = x * scale is rounded to x's dtype first. weight_D undefined: y = normed.
NormForward rms_norm_forward(const at::Tensor& x, const at::Tensor& weight_D, double eps);

struct NormGradients {
  at::Tensor x;
  at::Tensor weight_D;  ///< undefined without a weight
};

/// The weight's gradient is summed over blocks of rows in the order of memory, whose size the width alone decides, and then over the blocks
/// in their order: it does not depend on the number of threads.
NormGradients rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& weight_D, const at::Tensor& scale_R);

}  // namespace switchyard::kernels
