#include "core/norm.h"

#include <optional>

#include "core/dtypes.h"
#include "core/kernels/norm_kernels.h"
#include "core/kernels/rows.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct RmsNormalize : torch::autograd::Function<RmsNormalize> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& weight, double eps) {
    const auto weight_D = weight.value_or(at::Tensor());
    const auto out = kernels::rms_norm_forward(x, weight_D, eps);
    context->save_for_backward({x, weight_D, out.scale_R});
    return out.y;
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto gradients = kernels::rms_norm_backward(grads[0], saved[0], saved[1], saved[2]);
    return {gradients.x, gradients.weight_D, {}};
  }
};

at::Tensor normed_by_operators(const at::Tensor& x, double eps) {
  const auto wide = widen(x);
  return (wide * (wide.square().mean(-1, /*keepdim=*/true) + eps).rsqrt()).to(x.scalar_type());
}

}  // namespace

at::Tensor rms_normed(const at::Tensor& x, double eps) {
  return kernels::has_kernels(x) ? RmsNormalize::apply(x, std::optional<at::Tensor>(), eps) : normed_by_operators(x, eps);
}

RmsNormImpl::RmsNormImpl(int64_t width, double eps) : eps_(eps), weight_D_(register_parameter("weight", at::ones({width}))) {}

at::Tensor RmsNormImpl::forward(const at::Tensor& x) {
  const bool has_kernel = kernels::has_kernels(x) && weight_D_.is_cpu() && weight_D_.scalar_type() == x.scalar_type();
  return has_kernel ? RmsNormalize::apply(x, std::optional<at::Tensor>(weight_D_), eps_) : weight_D_ * normed_by_operators(x, eps_);
}

}  // namespace switchyard
