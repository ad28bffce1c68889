// A decoder-only transformer: blocks of attention (or an LSTM) and a feed-forward or an MoE layer, as the configuration says.
#pragma once

#include <vector>

#include "core/block.h"

namespace switchyard {

/// What generation keeps between passes of one batch of sequences.
struct DecodingState {
  std::vector<MixerState> layers;
  PastTokens past;
};

struct TransformerOutput {
  at::Tensor hidden_BSD;                      ///< after the last norm; logits() makes logits of it
  std::vector<RoutingStatistics> statistics;  ///< one a MoE layer, in order
  std::vector<at::Tensor> further_BSD;        ///< one a prediction block, as hidden_BSD, of the token 1, 2, ... further on
};

class TransformerImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated in fp32 on the CPU and not yet initialised: initialize_parameters() or a checkpoint fills them.
  /// `dispatchers`: one for each number of experts in the model; none for a dense one.
  TransformerImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution = {});

  /// context.token_ids_BS are the inputs. Prediction blocks run where context.next_ids_BS is defined. Collective over the dispatcher's
  /// ranks.
  TransformerOutput forward(const TokenContext& context);
  /// Outside training: the same for the tokens behind those that `state` holds, which takes them in; outputs of the new ones alone.
  /// Errors: c10::Error for a model that cannot (can_decode).
  TransformerOutput decode(const TokenContext& context, DecodingState& state);
  /// hidden [..., D] -> logits [..., V] in the run dtype.
  at::Tensor logits(const at::Tensor& hidden);
  /// [V, D], the map behind logits(): the embedding where it is tied.
  const at::Tensor& output_weight() const { return head_VD_.defined() ? head_VD_ : embedding_VD_; }

  /// In the order of blocks, those of prediction last.
  std::vector<MoeLayer> moe_layers() const;
  /// Every parameter under its global name, in a fixed order.
  std::vector<NamedParameter> parameters_by_name() const;
  const ModelConfig& config() const { return config_; }

 private:
  TransformerOutput run(const TokenContext& context, DecodingState* state);
  void predict_further(const AttentionPlan& plan, const TokenContext& context, TransformerOutput& output);
  /// Runs a block, with recomputation where it is asked for, and takes its statistics.
  at::Tensor run_block(Block block, const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state,
                       std::vector<RoutingStatistics>& statistics) const;

  ModelConfig config_;
  bool recomputes_blocks_;
  RotaryTable rotary_;
  at::Tensor embedding_VD_;
  std::vector<Block> blocks_;
  RmsNorm final_norm_{nullptr};
  std::vector<PredictionBlock> predictors_;
  at::Tensor head_VD_;  ///< undefined when tied
};
TORCH_MODULE(Transformer);

/// Whether, outside training, what the model makes of a token depends on the tokens up to it alone, so that generation may keep it: no rule
/// that looks ahead or at places, no capacity.
bool can_decode(const ModelConfig& config);

}  // namespace switchyard
