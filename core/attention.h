// Causal self-attention with grouped queries (Ainslie et al. 2023, arXiv:2305.13245): key head j serves query heads j g ... (j + 1) g - 1.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/model_config.h"
#include "core/rotary.h"
#include "core/routing/routing.h"

namespace switchyard {

/// Where the tokens of a batch stand and what they see; made once a pass, the same in every layer.
struct AttentionPlan {
  RotaryTable rotary;
  at::Tensor mask_B1SS;  ///< added to the scores: 0 within a document up to the token itself, else -inf. Undefined = causal only
};

/// dtype: of the scores, which is the run dtype.
AttentionPlan plan_attention(const RotaryTable& rotary, const TokenContext& context, at::ScalarType dtype);

class AttentionImpl : public torch::nn::Module {
 public:
  explicit AttentionImpl(const ModelConfig& config);
  /// x_BSD -> the same shape. mask_BS as in TokenContext: masked positions only ever stand behind the real ones, so causality hides them.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& plan);

 private:
  int64_t num_heads_;
  int64_t num_key_value_heads_;
  int64_t head_dim_;
  at::Tensor qkv_weight_;     ///< [(H + 2 Hkv) d, D]: queries, keys, values
  at::Tensor qkv_bias_;       ///< [(H + 2 Hkv) d], undefined without qkv_bias
  at::Tensor output_weight_;  ///< [D, H d]
};
TORCH_MODULE(Attention);

}  // namespace switchyard
