#include "core/transformer.h"

#include <algorithm>
#include <map>

#include "core/recompute.h"

namespace switchyard {

BlockImpl::BlockImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution)
    : recomputes_moe_(execution.recompute == Recompute::kMoe) {
  if (config.sequence_mixer == SequenceMixer::kAttention) {
    sequence_norm_ = register_module("attention_norm", RmsNorm(config.hidden_size, config.norm_eps));
    attention_ = register_module("attention", Attention(config));
  } else {
    sequence_norm_ = register_module("lstm_norm", RmsNorm(config.hidden_size, config.norm_eps));
    lstm_ = register_module("lstm", Lstm(config.hidden_size));
  }
  channel_norm_ = register_module("channel_norm", RmsNorm(config.hidden_size, config.norm_eps));
  if (config.moe) {
    moe_ = register_module("moe", MoeLayer(config, dispatchers.at(config.moe->num_experts), execution));
  } else {
    feed_forward_ = register_module("feed_forward", FeedForward(config.hidden_size, config.ffn_hidden_size, config.activation));
  }
}

at::Tensor BlockImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& attention, const TokenContext& context,
                              std::vector<RoutingStatistics>& statistics) {
  const auto mixed_BSD = x_BSD + mix_sequence(sequence_norm_->forward(x_BSD), attention, context);
  const auto normed_BSD = channel_norm_->forward(mixed_BSD);
  if (moe_.is_empty()) return mixed_BSD + feed_forward_->forward(normed_BSD);
  const Pass pass = [moe = moe_](const at::Tensor& x, const TokenContext& at_pass) mutable -> PassOutput {
    auto output = moe->forward(x, at_pass);
    return {std::move(output.y_BSD), {std::move(output.statistics)}};
  };
  auto output = recomputes_moe_ ? run_and_recompute(pass, normed_BSD, context) : pass(normed_BSD, context);
  statistics.push_back(std::move(output.statistics.front()));
  return mixed_BSD + output.y_BSD;
}

at::Tensor BlockImpl::mix_sequence(const at::Tensor& normed_BSD, const AttentionPlan& attention, const TokenContext& context) {
  return attention_.is_empty() ? lstm_->forward(normed_BSD, context.document_BS) : attention_->forward(normed_BSD, attention);
}

TransformerImpl::TransformerImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution)
    : config_(config),
      recomputes_blocks_(execution.recompute == Recompute::kBlock),
      rotary_(config.max_sequence_length, config.head_dim, config.rope_theta) {
  embedding_VD_ = register_parameter("embedding", at::empty({config.vocab_size, config.hidden_size}));
  const auto layers = register_module("layers", std::make_shared<torch::nn::Module>());
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    blocks_.push_back(layers->register_module(std::to_string(layer), Block(config.at_layer(layer), dispatchers, execution)));
  }
  final_norm_ = register_module("final_norm", RmsNorm(config.hidden_size, config.norm_eps));
  if (!config.tie_embeddings) head_VD_ = register_parameter("head", at::empty({config.vocab_size, config.hidden_size}));
}

TransformerOutput TransformerImpl::forward(const TokenContext& context) {
  TransformerOutput output;
  rotary_.move_to(context.token_ids_BS.device());
  auto x_BSD = at::embedding(embedding_VD_, context.token_ids_BS);
  const auto attention = plan_attention(rotary_, context, x_BSD.scalar_type());
  TokenContext at_layer = context;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    at_layer.layer = static_cast<int64_t>(layer);
    const Pass pass = [attention, block = blocks_[layer]](const at::Tensor& x, const TokenContext& at_pass) mutable {
      PassOutput of_block;
      of_block.y_BSD = block->forward(x, attention, at_pass, of_block.statistics);
      return of_block;
    };
    auto of_block = recomputes_blocks_ ? run_and_recompute(pass, x_BSD, at_layer) : pass(x_BSD, at_layer);
    x_BSD = of_block.y_BSD;
    std::ranges::move(of_block.statistics, std::back_inserter(output.statistics));
  }
  output.hidden_BSD = final_norm_->forward(x_BSD);
  return output;
}

at::Tensor TransformerImpl::logits(const at::Tensor& hidden) {
  return at::linear(hidden, head_VD_.defined() ? head_VD_ : embedding_VD_);
}

std::vector<MoeLayer> TransformerImpl::moe_layers() const {
  std::vector<MoeLayer> layers;
  for (const auto& block : blocks_) {
    if (!block->moe().is_empty()) layers.push_back(block->moe());
  }
  return layers;
}

std::vector<NamedParameter> TransformerImpl::parameters_by_name() const {
  std::map<const at::TensorImpl*, HeldExperts> held;
  for (const auto& layer : moe_layers()) {
    for (const auto& parameter : layer->experts()->parameters()) held[parameter.unsafeGetTensorImpl()] = layer->held_experts();
  }
  std::vector<NamedParameter> all;
  for (const auto& item : named_parameters()) {
    NamedParameter parameter{.name = item.key(), .tensor = item.value(), .decays = item.value().dim() > 1 && !item.key().ends_with("bias")};
    if (const auto experts = held.find(item.value().unsafeGetTensorImpl()); experts != held.end()) {
      parameter.num_experts = experts->second.num_experts;
      parameter.first_expert = experts->second.first;
    }
    all.push_back(std::move(parameter));
  }
  // The head is registered beside the embedding but used last: its gradient is complete first.
  std::ranges::stable_partition(all, [](const NamedParameter& parameter) { return parameter.name != "head"; });
  return all;
}

}  // namespace switchyard
