// A decoder-only transformer: pre-norm blocks of attention and a feed-forward or an MoE layer, as the configuration's pattern says.
#pragma once

#include <memory>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/attention.h"
#include "core/model_config.h"
#include "core/moe_layer.h"
#include "core/norm.h"
#include "core/parameter_store.h"

namespace switchyard {

/// x += attention(norm(x)); x += channel_mixer(norm(x)), the channel mixer being a FeedForward or a MoeLayer.
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, bool is_moe, const std::shared_ptr<TokenDispatcher>& dispatcher,
            const ExecutionConfig& execution = {});
  /// x_BSD -> the same shape. A MoE block appends its statistics.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& attention, const TokenContext& context,
                     std::vector<RoutingStatistics>& statistics);

  const MoeLayer& moe() const { return moe_; }  ///< empty in a dense block

 private:
  RmsNorm attention_norm_{nullptr};
  Attention attention_{nullptr};
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
  /// `dispatcher`: unused by a dense model, which may hand in null.
  TransformerImpl(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher, const ExecutionConfig& execution = {});

  /// context.token_ids_BS are the inputs. Collective over the dispatcher's ranks.
  TransformerOutput forward(const TokenContext& context);
  /// hidden [..., D] -> logits [..., V] in the run dtype.
  at::Tensor logits(const at::Tensor& hidden);

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
