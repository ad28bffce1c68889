// Which dtype sensitive arithmetic runs in.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// max(fp32, run dtype): norms, router, softmax, losses and sums. fp32 under bf16 and fp32, fp64 under fp64.
inline at::ScalarType wide_dtype(at::ScalarType run_dtype) {
  return run_dtype == at::kDouble ? at::kDouble : at::kFloat;
}

inline at::Tensor widen(const at::Tensor& x) {
  return x.to(wide_dtype(x.scalar_type()));
}

}  // namespace switchyard
