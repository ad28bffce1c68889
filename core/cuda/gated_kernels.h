// The gated activations of core/kernels/gated_kernels.h on a GPU, by the same formulas and so with the same bits. Tensors as there, with
// rows that RowLayout can say. They do not wait.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/model_config.h"

namespace switchyard::cuda {

void gated_activation_out(const at::Tensor& activation, const at::Tensor& up, Activation kind);

/// `activation` may be undefined.
void gated_activation_backward_out(const at::Tensor& grad_up, const at::Tensor& activation, const at::Tensor& grad_activation,
                                   const at::Tensor& up, Activation kind);

}  // namespace switchyard::cuda
