// What a feed-forward does between its two matrices. R rows, F width, W = 2 F for gated kinds (one product gives [gate | up]), else F.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/model_config.h"

namespace switchyard {

bool is_gated(Activation kind);

/// W for a feed-forward of width F.
inline int64_t up_width(Activation kind, int64_t ffn_hidden_size) {
  return is_gated(kind) ? 2 * ffn_hidden_size : ffn_hidden_size;
}

/// up_RW -> activation_RF. No autograd.
void activation_out(at::Tensor activation_RF, const at::Tensor& up_RW, Activation kind);

/// d up from d activation. No autograd. `grad_up_RW` is overwritten.
void activation_backward_out(at::Tensor grad_up_RW, const at::Tensor& grad_activation_RF, const at::Tensor& up_RW, Activation kind);

/// Both at once, for a backward that does not have the activation any more: `activation_RF` is what activation_out gave, to the bit.
void activation_and_backward_out(at::Tensor activation_RF, at::Tensor grad_up_RW, const at::Tensor& grad_activation_RF,
                                 const at::Tensor& up_RW, Activation kind);

/// activation_out with autograd.
at::Tensor activate(const at::Tensor& up_RW, Activation kind);

}  // namespace switchyard
