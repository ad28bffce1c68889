// A transformer block, and the block that predicts one token further on.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "core/model_config.h"
#include "core/moe_layer.h"
#include "core/norm.h"
#include "core/parameter_store.h"
#include "core/sequence_mixer.h"

namespace switchyard {

/// The dispatcher of the MoE layers that have so many experts.
using Dispatchers = std::map<int64_t, std::shared_ptr<TokenDispatcher>>;

/// x += sequence_mixer(norm(x)); x += channel_mixer(norm(x)): attention or Lstm, FeedForward or MoeLayer. With norms behind:
/// x += norm(sequence_mixer(x)); x += norm(channel_mixer(x)).
class BlockImpl : public torch::nn::Module {
 public:
  /// config: as this block sees it (ModelConfig::at_layer).
  BlockImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution = {});
  /// x_BSD -> the same shape. A MoE block appends its statistics. state: as SequenceMixerModule::forward.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state,
                     std::vector<RoutingStatistics>& statistics);

  const MoeLayer& moe() const { return moe_; }  ///< empty in a dense block

 private:
  at::Tensor mix_channels(const at::Tensor& x_BSD, const TokenContext& context, std::vector<RoutingStatistics>& statistics);

  bool norms_outputs_;
  bool recomputes_moe_;
  RmsNorm sequence_norm_{nullptr};
  std::shared_ptr<SequenceMixerModule> sequence_mixer_;
  RmsNorm channel_norm_{nullptr};
  FeedForward feed_forward_{nullptr};
  MoeLayer moe_{nullptr};
};
TORCH_MODULE(Block);

/// DeepSeek-V3's multi-token prediction (arXiv:2412.19437, section 2.2): a hidden state and the embedding of the token behind it become,
/// through one block, the hidden state that predicts the token after that. Embedding and head are the model's own.
class PredictionBlockImpl : public torch::nn::Module {
 public:
  /// config: as this block sees it. Parameters: embedding_norm, hidden_norm, projection [D, 2 D], block, norm.
  PredictionBlockImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution);
  /// What goes into block(): [B, S, D].
  at::Tensor joined(const at::Tensor& embedding_BSD, const at::Tensor& hidden_BSD);
  const Block& block() const { return block_; }
  /// Of what comes out of block(): logits() makes logits of it.
  at::Tensor normed(const at::Tensor& x_BSD) { return norm_->forward(x_BSD); }

 private:
  RmsNorm embedding_norm_{nullptr};
  RmsNorm hidden_norm_{nullptr};
  at::Tensor projection_D2D_;
  Block block_{nullptr};
  RmsNorm norm_{nullptr};
};
TORCH_MODULE(PredictionBlock);

}  // namespace switchyard
