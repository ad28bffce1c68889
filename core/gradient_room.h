// Where flat storage sums a parameter's gradient, for functions whose backward adds to the sum themselves: a gradient that autograd is
// given is one more buffer of the weights' size, written, read and added.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function_hook.h>

namespace switchyard {

class GradientRoom : public torch::autograd::PostAccumulateGradHook {
 public:
  /// Of the parameter's shape, in max(fp32, its dtype); holds what came before.
  virtual const at::Tensor& sum() const = 0;
};

/// Of a parameter that a ParameterStore holds; null for all other tensors. Whoever adds there returns an undefined
/// gradient to autograd, which then tells the store that the sum is complete.
GradientRoom* gradient_room_of(const at::Tensor& parameter);

}  // namespace switchyard
