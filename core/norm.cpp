#include "core/norm.h"

#include "core/dtypes.h"

namespace switchyard {

at::Tensor rms_normed(const at::Tensor& x, double eps) {
  const auto wide = widen(x);
  return (wide * (wide.square().mean(-1, /*keepdim=*/true) + eps).rsqrt()).to(x.scalar_type());
}

RmsNormImpl::RmsNormImpl(int64_t width, double eps) : eps_(eps), weight_D_(register_parameter("weight", at::ones({width}))) {}

at::Tensor RmsNormImpl::forward(const at::Tensor& x) {
  return weight_D_ * rms_normed(x, eps_);
}

}  // namespace switchyard
