// SwiGLU (Shazeer 2020, arXiv:2002.05202): silu(gate) * up, where one matrix product gives both halves.
// R rows, F width.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// gate_up_R2F = [gate | up] -> activation_RF. No autograd.
void swiglu_out(at::Tensor activation_RF, const at::Tensor& gate_up_R2F);

/// d gate_up from d activation. No autograd. `grad_gate_up_R2F` is overwritten.
void swiglu_backward_out(at::Tensor grad_gate_up_R2F, const at::Tensor& grad_activation_RF, const at::Tensor& gate_up_R2F);

/// The same with autograd.
at::Tensor swiglu(const at::Tensor& gate_up_R2F);

}  // namespace switchyard
