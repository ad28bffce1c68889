// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): keys and values of all heads are made of one narrow latent.
#pragma once

#include <torch/nn/pimpl.h>

#include "core/norm.h"
#include "core/sequence_mixer.h"

namespace switchyard {

/// H heads whose queries and keys are [n without | r with position] wide, values v; latent width c of keys and values, q of queries.
class LatentAttentionImpl : public SequenceMixerModule {
 public:
  /// Parameters: q [H (n + r), D], or q_a [q, D], q_a_norm and q_b [H (n + r), q]; kv_a [c + r, D] (the latent, then the one key with
  /// position that all heads share), kv_a_norm, kv_b [H (n + v), c] (each head's keys without position, then its values), output [D, H v];
  /// biases of q_a, kv_a and output as the configuration says.
  explicit LatentAttentionImpl(const ModelConfig& config);
  /// With a state it keeps the latents and the shared keys alone, and computes in the absorbed form: queries are turned into the latent's
  /// space, which gives the same result without making keys and values of every past token.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state) override;

 private:
  struct Projected {
    at::Tensor query_nope_BHSn;
    at::Tensor query_rope_BHSr;
    at::Tensor latent_BSc;
    at::Tensor key_rope_B1Sr;
  };
  Projected project(const at::Tensor& x_BSD, const AttentionPlan& plan);
  /// Both return [B, H, S, v].
  at::Tensor attend_expanded(const Projected& in, const at::Tensor& mask) const;
  at::Tensor attend_absorbed(const Projected& in, const at::Tensor& mask, MixerState& state) const;
  /// kv_b by head: [H, n + v, c].
  at::Tensor expansion_by_head() const { return kv_b_.unflatten(0, {num_heads_, -1}); }

  int64_t num_heads_;
  int64_t nope_dim_;
  int64_t rope_dim_;
  int64_t value_dim_;
  int64_t latent_dim_;
  bool is_limited_;
  double score_scale_;
  at::Tensor q_, q_a_, q_a_bias_, q_b_, kv_a_, kv_a_bias_, kv_b_, output_, output_bias_;
  RmsNorm q_a_norm_{nullptr};
  RmsNorm kv_a_norm_{nullptr};
};
TORCH_MODULE(LatentAttention);

}  // namespace switchyard
