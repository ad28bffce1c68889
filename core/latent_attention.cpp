#include "core/latent_attention.h"

#include <cmath>

namespace switchyard {
namespace {

constexpr double kLatentNormEps = 1e-6;  // whatever norm_eps is, as in DeepSeek's code

}  // namespace

LatentAttentionImpl::LatentAttentionImpl(const ModelConfig& config)
    : num_heads_(config.num_attention_heads),
      nope_dim_(config.attention.qk_nope_head_dim),
      rope_dim_(config.attention.qk_rope_head_dim),
      value_dim_(config.attention.v_head_dim),
      latent_dim_(config.attention.kv_lora_rank),
      is_limited_(config.attention.full_layers.is_none()),
      score_scale_(latent_score_factor(config.rope) / std::sqrt(static_cast<double>(nope_dim_ + rope_dim_))) {
  const int64_t D = config.hidden_size, q_rank = config.attention.q_lora_rank, query_rows = num_heads_ * (nope_dim_ + rope_dim_);
  const auto add = [&](const char* name, at::IntArrayRef shape) { return register_parameter(name, at::empty(shape)); };
  if (q_rank == 0) {
    q_ = add("q", {query_rows, D});
  } else {
    q_a_ = add("q_a", {q_rank, D});
    if (config.qkv_bias) q_a_bias_ = add("q_a_bias", {q_rank});
    q_a_norm_ = register_module("q_a_norm", RmsNorm(q_rank, kLatentNormEps));
    q_b_ = add("q_b", {query_rows, q_rank});
  }
  kv_a_ = add("kv_a", {latent_dim_ + rope_dim_, D});
  if (config.qkv_bias) kv_a_bias_ = add("kv_a_bias", {latent_dim_ + rope_dim_});
  kv_a_norm_ = register_module("kv_a_norm", RmsNorm(latent_dim_, kLatentNormEps));
  kv_b_ = add("kv_b", {num_heads_ * (nope_dim_ + value_dim_), latent_dim_});
  output_ = add("output", {D, num_heads_ * value_dim_});
  if (config.attention.output_bias) output_bias_ = add("output_bias", {D});
}

at::Tensor LatentAttentionImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& /*context*/,
                                        MixerState* state) {
  const auto projected = project(x_BSD, plan);
  const auto& mask = is_limited_ ? plan.limited_mask : plan.full_mask;
  const auto mixed_BHSv = state == nullptr ? attend_expanded(projected, mask) : attend_absorbed(projected, mask, *state);
  return at::linear(mixed_BHSv.transpose(1, 2).flatten(2), output_, output_bias_);
}

LatentAttentionImpl::Projected LatentAttentionImpl::project(const at::Tensor& x_BSD, const AttentionPlan& plan) {
  const auto flat_query = q_.defined() ? at::linear(x_BSD, q_) : at::linear(q_a_norm_->forward(at::linear(x_BSD, q_a_, q_a_bias_)), q_b_);
  const auto query = flat_query.unflatten(2, {num_heads_, -1}).transpose(1, 2).split_with_sizes({nope_dim_, rope_dim_}, 3);
  const auto latent = at::linear(x_BSD, kv_a_, kv_a_bias_).split_with_sizes({latent_dim_, rope_dim_}, 2);
  return {query[0], plan.rotary.rotate(query[1]), kv_a_norm_->forward(latent[0]), plan.rotary.rotate(latent[1].unsqueeze(1))};
}

at::Tensor LatentAttentionImpl::attend_expanded(const Projected& in, const at::Tensor& mask) const {
  const auto expanded = at::linear(in.latent_BSc, kv_b_).unflatten(2, {num_heads_, -1}).transpose(1, 2);
  const auto key_value = expanded.split_with_sizes({nope_dim_, value_dim_}, 3);
  const auto query = at::cat({in.query_nope_BHSn, in.query_rope_BHSr}, 3);
  const auto key = at::cat({key_value[0], in.key_rope_B1Sr.expand({-1, num_heads_, -1, -1})}, 3);
  return attend(query, key, key_value[1], mask, score_scale_, /*sink_H=*/{});
}

at::Tensor LatentAttentionImpl::attend_absorbed(const Projected& in, const at::Tensor& mask, MixerState& state) const {
  const auto latent_B1Pc = append_tokens(state.first, in.latent_BSc.unsqueeze(1), 2);
  const auto key_rope_B1Pr = append_tokens(state.second, in.key_rope_B1Sr, 2);
  const auto expansion = expansion_by_head().split_with_sizes({nope_dim_, value_dim_}, 1);
  const auto query = at::cat({at::matmul(in.query_nope_BHSn, expansion[0]), in.query_rope_BHSr}, 3);
  const auto mixed_BHSc = attend(query, at::cat({latent_B1Pc, key_rope_B1Pr}, 3), latent_B1Pc, mask, score_scale_, /*sink_H=*/{});
  return at::matmul(mixed_BHSc, expansion[1].transpose(1, 2));
}

}  // namespace switchyard
