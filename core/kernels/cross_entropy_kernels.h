// Softmax cross entropy and its gradient in one visit of each row of logits. CPU; fp64, fp32, bf16 (in fp32, rounded once).
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

/// logit_TV becomes softmax(logit_TV) - one-hot(target_T), zero where mask_T is false. Returns -log softmax[target] in nats, [T] in
/// max(fp32, dtype), zero where mask_T is false. logit_TV: dense rows; target_T int64, mask_T bool. Errors: a target outside of [0, V).
at::Tensor cross_entropy_and_gradient(at::Tensor logit_TV, const at::Tensor& target_T, const at::Tensor& mask_T);

}  // namespace switchyard::kernels
