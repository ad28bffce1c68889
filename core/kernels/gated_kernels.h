// Gated activations in one pass over [gate | up]: each element is read once and every result written once. CPU and CUDA; fp64, fp32, bf16
// (in fp32, rounded once). up [..., 2 F]; activation [..., F]; all of one dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/model_config.h"

namespace switchyard::kernels {

/// kind: kSwiglu or kClampedSwiglu.
void gated_activation_out(at::Tensor activation, const at::Tensor& up, Activation kind);

/// `activation`, where defined, is overwritten with what gated_activation_out gave, to the bit.
void gated_activation_backward_out(at::Tensor grad_up, at::Tensor activation, const at::Tensor& grad_activation, const at::Tensor& up,
                                   Activation kind);

}  // namespace switchyard::kernels
