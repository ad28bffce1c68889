// A decoder-only transformer: pre-norm blocks of attention (or an LSTM) and a feed-forward or an MoE layer, as the configuration says.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/attention.h"
#include "core/lstm.h"
#include "core/model_config.h"
#include "core/moe_layer.h"
#include "core/norm.h"
#include "core/parameter_store.h"

namespace switchyard {

/// The dispatcher of the MoE layers that have so many experts.
using Dispatchers = std::map<int64_t, std::shared_ptr<TokenDispatcher>>;

/// x += sequence_mixer(norm(x)); x += channel_mixer(norm(x)): Attention or Lstm, FeedForward or MoeLayer.
class BlockImpl : public torch::nn::Module {
 public:
  /// config: as this block sees it (ModelConfig::at_layer).
  BlockImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution = {});
  /// x_BSD -> the same shape. A MoE block appends its statistics.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& attention, const TokenContext& context,
                     std::vector<RoutingStatistics>& statistics);

  const MoeLayer& moe() const { return moe_; }  ///< empty in a dense block

 private:
  at::Tensor mix_sequence(const at::Tensor& normed_BSD, const AttentionPlan& attention, const TokenContext& context);

  RmsNorm sequence_norm_{nullptr};
  Attention attention_{nullptr};
  Lstm lstm_{nullptr};
  RmsNorm channel_norm_{nullptr};
  FeedForward feed_forward_{nullptr};
  MoeLayer moe_{nullptr};
  bool recomputes_moe_;
};
TORCH_MODULE(Block);

struct TransformerOutput {
  at::Tensor hidden_BSD;                      ///< after the last norm; logits() makes logits of it
  std::vector<RoutingStatistics> statistics;  ///< one a MoE layer, in order
};

class TransformerImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated in fp32 on the CPU and not yet initialised: initialize_parameters() or a checkpoint fills them.
  /// `dispatchers`: one for each number of experts in the model; none for a dense one.
  TransformerImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution = {});

  /// context.token_ids_BS are the inputs. Collective over the dispatcher's ranks.
  TransformerOutput forward(const TokenContext& context);
  /// hidden [..., D] -> logits [..., V] in the run dtype.
  at::Tensor logits(const at::Tensor& hidden);

  /// In the order of blocks.
  std::vector<MoeLayer> moe_layers() const;
  /// Every parameter under its global name, in a fixed order.
  std::vector<NamedParameter> parameters_by_name() const;
  const ModelConfig& config() const { return config_; }

 private:
  ModelConfig config_;
  bool recomputes_blocks_;
  RotaryTable rotary_;
  at::Tensor embedding_VD_;
  std::vector<Block> blocks_;
  RmsNorm final_norm_{nullptr};
  at::Tensor head_VD_;  ///< undefined when tied
};
TORCH_MODULE(Transformer);

}  // namespace switchyard
