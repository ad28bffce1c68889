// Rotary embedding in one pass over heads that lie in any order. CPU; fp64, fp32, bf16 (computed in fp32).
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

/// How pairs turn: fp64 [S', d'] or [B, 1, S', d'], S' >= S, with each pair's number at both its places. d' even: what turns of a head.
struct RotaryAngles {
  at::Tensor cos, sin;  ///< sin is negated at the first place
  bool interleaved;     ///< pairs are neighbours; else half of d' apart
};

/// y_BHSd(x_BHSd) = x cos + swapped(x) sin, or with `transposed` the product with the transposed matrix: x cos + swapped(x sin). What lies
/// behind the first d' of d is copied. `y_BHSd` is overwritten and need not lie as x does. Errors: last dimensions that are not dense.
void rotate_out(const at::Tensor& y_BHSd, const at::Tensor& x_BHSd, const RotaryAngles& angles, bool transposed);

}  // namespace switchyard::kernels
