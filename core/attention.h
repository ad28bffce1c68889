// Causal self-attention with grouped queries (Ainslie et al. 2023, arXiv:2305.13245) and what the families add to it.
#pragma once

#include <torch/nn/pimpl.h>

#include "core/norm.h"
#include "core/sequence_mixer.h"

namespace switchyard {

class AttentionImpl : public SequenceMixerModule {
 public:
  /// config: as the block sees it (ModelConfig::at_layer). Parameters: qkv [(H + 2 K) d, D] (queries, keys, values), output [D, H d], their
  /// biases, q_norm and k_norm, sinks [H], as the configuration says.
  explicit AttentionImpl(const ModelConfig& config);
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state) override;

 private:
  struct Heads {
    at::Tensor query_BHSd;
    at::Tensor key_BKSd;
    at::Tensor value_BKSd;
  };
  Heads project(const at::Tensor& x_BSD);
  /// Queries or keys, turned by their positions and unit-normed where the configuration says so.
  at::Tensor positioned(const at::Tensor& heads_BHSd, const AttentionPlan& plan) const;

  int64_t num_heads_;
  int64_t num_key_value_heads_;
  int64_t head_dim_;
  AttentionConfig config_;
  double norm_eps_;
  bool rotates_;
  bool is_limited_;  ///< by a window or chunk
  at::Tensor qkv_weight_;
  at::Tensor qkv_bias_;  ///< undefined without qkv_bias
  at::Tensor output_weight_;
  at::Tensor output_bias_;  ///< undefined without output_bias
  RmsNorm query_norm_{nullptr};
  RmsNorm key_norm_{nullptr};
  at::Tensor sink_H_;  ///< undefined without sinks
};
TORCH_MODULE(Attention);

}  // namespace switchyard
