#include "core/norm.h"

#include "core/dtypes.h"

namespace switchyard {

RmsNormImpl::RmsNormImpl(int64_t width, double eps) : eps_(eps), weight_D_(register_parameter("weight", at::ones({width}))) {}

at::Tensor RmsNormImpl::forward(const at::Tensor& x) {
  const auto wide = widen(x);
  const auto normed = wide * (wide.square().mean(-1, /*keepdim=*/true) + eps_).rsqrt();
  return weight_D_ * normed.to(x.scalar_type());
}

}  // namespace switchyard
