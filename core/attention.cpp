#include "core/attention.h"

#include <cmath>

namespace switchyard {

AttentionImpl::AttentionImpl(const ModelConfig& config)
    : num_heads_(config.num_attention_heads),
      num_key_value_heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      config_(config.attention),
      norm_eps_(config.norm_eps),
      rotates_(config.attention.nope_layers.is_none()),
      is_limited_(config.attention.full_layers.is_none()) {
  const int64_t rows = (num_heads_ + 2 * num_key_value_heads_) * head_dim_;
  qkv_weight_ = register_parameter("qkv", at::empty({rows, config.hidden_size}));
  if (config.qkv_bias) qkv_bias_ = register_parameter("qkv_bias", at::empty({rows}));
  output_weight_ = register_parameter("output", at::empty({config.hidden_size, num_heads_ * head_dim_}));
  if (config_.output_bias) output_bias_ = register_parameter("output_bias", at::empty({config.hidden_size}));
  if (config_.qk_norm == QkNorm::kHead || config_.qk_norm == QkNorm::kWhole) {
    const bool whole = config_.qk_norm == QkNorm::kWhole;
    query_norm_ = register_module("q_norm", RmsNorm(head_dim_ * (whole ? num_heads_ : 1), config.norm_eps));
    key_norm_ = register_module("k_norm", RmsNorm(head_dim_ * (whole ? num_key_value_heads_ : 1), config.norm_eps));
  }
  if (config_.sinks) sink_H_ = register_parameter("sinks", at::empty({num_heads_}));
}

at::Tensor AttentionImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& /*context*/, MixerState* state) {
  auto heads = project(x_BSD);
  heads.query_BHSd = positioned(heads.query_BHSd, plan);
  heads.key_BKSd = positioned(heads.key_BKSd, plan);
  if (!rotates_ && plan.temperature_S1.defined()) heads.query_BHSd = heads.query_BHSd * plan.temperature_S1;
  if (state != nullptr) {
    heads.key_BKSd = append_tokens(state->first, heads.key_BKSd, 2);
    heads.value_BKSd = append_tokens(state->second, heads.value_BKSd, 2);
  }
  const auto& mask = is_limited_ ? plan.limited_mask : plan.full_mask;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  const auto mixed_BHSd = attend(heads.query_BHSd, heads.key_BKSd, heads.value_BKSd, mask, scale, sink_H_);
  return at::linear(mixed_BHSd.transpose(1, 2).flatten(2), output_weight_, output_bias_);
}

AttentionImpl::Heads AttentionImpl::project(const at::Tensor& x_BSD) {
  const int64_t queries = num_heads_ * head_dim_, keys = num_key_value_heads_ * head_dim_;
  auto parts = at::linear(x_BSD, qkv_weight_, qkv_bias_).split_with_sizes({queries, keys, keys}, /*dim=*/2);
  const auto whole_norm = [&](RmsNorm& norm, const at::Tensor& part) {
    return config_.qk_norm == QkNorm::kWhole ? norm->forward(part) : part;
  };
  const auto head_norm = [&](RmsNorm& norm, const at::Tensor& part) {
    return config_.qk_norm == QkNorm::kHead ? norm->forward(part) : part;
  };
  const auto clipped = [&](const at::Tensor& part) { return config_.clip_qkv ? part.clamp(-*config_.clip_qkv, *config_.clip_qkv) : part; };
  const auto by_head = [&](const at::Tensor& part) { return part.unflatten(2, {-1, head_dim_}); };
  const auto query = head_norm(query_norm_, by_head(clipped(whole_norm(query_norm_, parts[0]))));
  const auto key = head_norm(key_norm_, by_head(clipped(whole_norm(key_norm_, parts[1]))));
  return {query.transpose(1, 2), key.transpose(1, 2), by_head(clipped(parts[2])).transpose(1, 2)};
}

at::Tensor AttentionImpl::positioned(const at::Tensor& heads_BHSd, const AttentionPlan& plan) const {
  if (!rotates_) return heads_BHSd;
  const auto turned = plan.rotary.rotate(heads_BHSd);
  return config_.qk_norm == QkNorm::kUnit ? rms_normed(turned, norm_eps_) : turned;
}

}  // namespace switchyard
