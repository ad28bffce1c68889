#include "core/gradient_room.h"

#include <torch/csrc/autograd/variable.h>

namespace switchyard {

GradientRoom* gradient_room_of(const at::Tensor& parameter) {
  if (!parameter.is_leaf() || !parameter.requires_grad()) return nullptr;
  return dynamic_cast<GradientRoom*>(torch::autograd::impl::post_acc_grad_hooks(parameter).get());
}

}  // namespace switchyard
