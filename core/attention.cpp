#include "core/attention.h"

#include <limits>

namespace switchyard {

AttentionPlan plan_attention(const RotaryTable& rotary, const TokenContext& context, at::ScalarType dtype) {
  AttentionPlan plan{.rotary = rotary.at_positions(context.position_BS), .mask_B1SS = {}};
  if (context.document_BS.defined()) {
    const auto& document_BS = context.document_BS;
    const int64_t S = document_BS.size(1);
    const auto sees_BSS = document_BS.unsqueeze(2).eq(document_BS.unsqueeze(1)).tril_();
    plan.mask_B1SS = at::zeros({document_BS.size(0), 1, S, S}, document_BS.options().dtype(dtype))
                         .masked_fill_(sees_BSS.logical_not_().unsqueeze(1), -std::numeric_limits<double>::infinity());
  }
  return plan;
}

AttentionImpl::AttentionImpl(const ModelConfig& config)
    : num_heads_(config.num_attention_heads), num_key_value_heads_(config.num_key_value_heads), head_dim_(config.head_dim) {
  const int64_t rows = (num_heads_ + 2 * num_key_value_heads_) * head_dim_;
  qkv_weight_ = register_parameter("qkv", at::empty({rows, config.hidden_size}));
  if (config.qkv_bias) qkv_bias_ = register_parameter("qkv_bias", at::empty({rows}));
  output_weight_ = register_parameter("output", at::empty({config.hidden_size, num_heads_ * head_dim_}));
}

at::Tensor AttentionImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& plan) {
  const int64_t B = x_BSD.size(0), S = x_BSD.size(1);
  const auto qkv_BSHd = at::linear(x_BSD, qkv_weight_, qkv_bias_).view({B, S, -1, head_dim_});
  const auto parts = qkv_BSHd.transpose(1, 2).split_with_sizes({num_heads_, num_key_value_heads_, num_key_value_heads_}, /*dim=*/1);
  const auto query = plan.rotary.rotate(parts[0]);
  const int64_t group = num_heads_ / num_key_value_heads_;
  const auto widen_heads = [&](const at::Tensor& heads) { return group == 1 ? heads : heads.repeat_interleave(group, /*dim=*/1); };
  const auto key = widen_heads(plan.rotary.rotate(parts[1]));
  const auto value = widen_heads(parts[2]);
  const bool is_causal = !plan.mask_B1SS.defined();
  const auto mask = is_causal ? std::optional<at::Tensor>() : plan.mask_B1SS;
  const auto mixed_BHSd = at::scaled_dot_product_attention(query, key, value, mask, /*dropout_p=*/0.0, is_causal);
  return at::linear(mixed_BHSd.transpose(1, 2).reshape({B, S, num_heads_ * head_dim_}), output_weight_);
}

}  // namespace switchyard
