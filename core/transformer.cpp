#include "core/transformer.h"

#include <algorithm>

#include "core/parameters_by_name.h"
#include "core/phase_boundary.h"
#include "core/recompute.h"
#include "core/routing/routing_rule.h"
#include "core/shift.h"

namespace switchyard {
bool can_decode(const ModelConfig& config) {
  if (!config.moe) return true;
  const auto& rule = routing_rules().at(config.moe->router);
  return !rule.looks_ahead && !rule.uses_places && !config.moe->eval_capacity_factor;
}

TransformerImpl::TransformerImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution)
    : config_(config),
      recomputes_blocks_(execution.recompute == Recompute::kBlock),
      rotary_(config.max_sequence_length, config.rotary_dim(), config.rope_theta, config.rope) {
  embedding_VD_ = register_parameter("embedding", at::empty({config.vocab_size, config.hidden_size}));
  const auto layers = register_module("layers", std::make_shared<torch::nn::Module>());
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    blocks_.push_back(layers->register_module(std::to_string(layer), Block(config.at_layer(layer), dispatchers, execution)));
  }
  final_norm_ = register_module("final_norm", RmsNorm(config.hidden_size, config.norm_eps));
  const auto predictors = register_module("mtp", std::make_shared<torch::nn::Module>());
  for (int64_t depth = 0; depth < config.mtp_layers; ++depth) {
    predictors_.push_back(predictors->register_module(std::to_string(depth),
                                                      PredictionBlock(config.at_layer(config.num_layers + depth), dispatchers, execution)));
  }
  if (!config.tie_embeddings) head_VD_ = register_parameter("head", at::empty({config.vocab_size, config.hidden_size}));
}

TransformerOutput TransformerImpl::forward(const TokenContext& context) {
  return run(context, /*state=*/nullptr);
}

TransformerOutput TransformerImpl::decode(const TokenContext& context, DecodingState& state) {
  TORCH_CHECK(can_decode(config_), "Transformer::decode: later tokens change what this model made of earlier ones");
  state.layers.resize(blocks_.size());
  auto output = run(context, &state);
  state.past.count += context.token_ids_BS.size(1);
  if (context.document_BS.defined()) append_tokens(state.past.document_BP, context.document_BS, 1);
  return output;
}

TransformerOutput TransformerImpl::run(const TokenContext& context, DecodingState* state) {
  TransformerOutput output;
  rotary_.move_to(context.token_ids_BS.device());
  TokenContext at_layer = context;
  at_layer.layer = kNoLayer;
  enter(context.observer, Phase::kEmbedding);
  auto x_BSD = phase_boundary(at::embedding(embedding_VD_, context.token_ids_BS), at_layer, Phase::kEmbedding, Phase::kForward);
  const auto past = state == nullptr ? PastTokens() : state->past;
  const auto plan = plan_attention(rotary_, config_.attention, context, x_BSD.scalar_type(), past);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    at_layer.layer = static_cast<int64_t>(layer);
    x_BSD = run_block(blocks_[layer], x_BSD, plan, at_layer, state == nullptr ? nullptr : &state->layers[layer], output.statistics);
  }
  at_layer.layer = kNoLayer;
  output.hidden_BSD = phase_boundary(final_norm_->forward(x_BSD), at_layer, Phase::kForward, Phase::kLoss);
  if (context.next_ids_BS.defined()) predict_further(plan, context, output);
  return output;
}

void TransformerImpl::predict_further(const AttentionPlan& plan, const TokenContext& context, TransformerOutput& output) {
  auto hidden_BSD = output.hidden_BSD;
  TokenContext at_layer = context;
  for (size_t depth = 0; depth < predictors_.size(); ++depth) {
    auto& predictor = predictors_[depth];
    at_layer.layer = config_.num_layers + static_cast<int64_t>(depth);
    at_layer.token_ids_BS = shifted(context.next_ids_BS, static_cast<int64_t>(depth));
    const auto x_BSD = predictor->joined(at::embedding(embedding_VD_, at_layer.token_ids_BS), hidden_BSD);
    hidden_BSD = predictor->normed(run_block(predictor->block(), x_BSD, plan, at_layer, /*state=*/nullptr, output.statistics));
    output.further_BSD.push_back(hidden_BSD);
  }
}

at::Tensor TransformerImpl::run_block(Block block, const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context,
                                      MixerState* state, std::vector<RoutingStatistics>& statistics) const {
  const Pass pass = [plan, block, state](const at::Tensor& x, const TokenContext& at_pass) mutable {
    PassOutput output;
    output.y_BSD = block->forward(x, plan, at_pass, state, output.statistics);
    return output;
  };
  auto output = recomputes_blocks_ ? run_and_recompute(pass, x_BSD, context) : pass(x_BSD, context);
  std::ranges::move(output.statistics, std::back_inserter(statistics));
  return output.y_BSD;
}

at::Tensor TransformerImpl::logits(const at::Tensor& hidden) {
  return at::linear(hidden, output_weight());
}

std::vector<MoeLayer> TransformerImpl::moe_layers() const {
  std::vector<MoeLayer> layers;
  const auto add = [&](const Block& block) {
    if (!block->moe().is_empty()) layers.push_back(block->moe());
  };
  for (const auto& block : blocks_) add(block);
  for (const auto& predictor : predictors_) add(predictor->block());
  return layers;
}

std::vector<NamedParameter> TransformerImpl::parameters_by_name() const {
  auto all = switchyard::parameters_by_name(*this);
  // The head is registered beside the embedding but used last: its gradient is complete first.
  std::ranges::stable_partition(all, [](const NamedParameter& parameter) { return parameter.name != "head"; });
  return all;
}

}  // namespace switchyard
