// Next-token cross entropy.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Sum over targets with mask = true of -log softmax(logits)[target], in nats, in max(fp32, run dtype); the scalar is float64. Not a mean:
/// it is divided once by the number of targets of the whole global batch. logits_TV any float dtype, target_T int64, mask_T bool.
at::Tensor cross_entropy_sum(const at::Tensor& logits_TV, const at::Tensor& target_T, const at::Tensor& mask_T);

/// Tokens whose logits exist at once in linear_cross_entropy_sum. Fewer make its products slower (128: 0.86 of their speed, 1024: 0.98).
inline constexpr int64_t kLossChunkTokens = 1024;

/// cross_entropy_sum of hidden_TD weight_VD^T, for training: a chunk of tokens at a time, whose gradients are formed while its logits are
/// there, so that neither all logits nor their gradients ever exist. Differentiable once, by hidden_TD and weight_VD.
at::Tensor linear_cross_entropy_sum(const at::Tensor& hidden_TD, const at::Tensor& weight_VD, const at::Tensor& target_T,
                                    const at::Tensor& mask_T);

}  // namespace switchyard
