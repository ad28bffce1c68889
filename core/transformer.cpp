#include "core/transformer.h"

#include <algorithm>
#include <map>

#include "core/recompute.h"

namespace switchyard {

BlockImpl::BlockImpl(const ModelConfig& config, bool is_moe, const std::shared_ptr<TokenDispatcher>& dispatcher,
                     const ExecutionConfig& execution)
    : recomputes_moe_(execution.recompute == Recompute::kMoe) {
  attention_norm_ = register_module("attention_norm", RmsNorm(config.hidden_size, config.norm_eps));
  attention_ = register_module("attention", Attention(config));
  channel_norm_ = register_module("channel_norm", RmsNorm(config.hidden_size, config.norm_eps));
  if (is_moe) {
    moe_ = register_module("moe", MoeLayer(config, dispatcher, execution));
  } else {
    feed_forward_ = register_module("feed_forward", FeedForward(config.hidden_size, config.ffn_hidden_size));
  }
}

at::Tensor BlockImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& attention, const TokenContext& context,
                              std::vector<RoutingStatistics>& statistics) {
  const auto mixed_BSD = x_BSD + attention_->forward(attention_norm_->forward(x_BSD), attention);
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

TransformerImpl::TransformerImpl(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher, const ExecutionConfig& execution)
    : config_(config),
      recomputes_blocks_(execution.recompute == Recompute::kBlock),
      rotary_(config.max_sequence_length, config.head_dim, config.rope_theta) {
  embedding_VD_ = register_parameter("embedding", at::empty({config.vocab_size, config.hidden_size}));
  const auto layers = register_module("layers", std::make_shared<torch::nn::Module>());
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    blocks_.push_back(layers->register_module(std::to_string(layer), Block(config, config.is_moe_layer(layer), dispatcher, execution)));
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

std::vector<NamedParameter> TransformerImpl::parameters_by_name() const {
  std::map<const at::TensorImpl*, const TokenDispatcher*> expert_owner;
  for (const auto& block : blocks_) {
    if (block->moe().is_empty()) continue;
    for (const auto& parameter : block->moe()->experts()->parameters()) {
      expert_owner[parameter.unsafeGetTensorImpl()] = &block->moe()->dispatcher();
    }
  }
  std::vector<NamedParameter> all;
  for (const auto& item : named_parameters()) {
    NamedParameter parameter{.name = item.key(), .tensor = item.value(), .decays = item.value().dim() > 1};
    if (const auto owner = expert_owner.find(item.value().unsafeGetTensorImpl()); owner != expert_owner.end()) {
      parameter.num_experts = config_.moe->num_experts;
      parameter.first_expert = owner->second->first_expert();
    }
    all.push_back(std::move(parameter));
  }
  // The head is registered beside the embedding but used last: its gradient is complete first.
  std::ranges::stable_partition(all, [](const NamedParameter& parameter) { return parameter.name != "head"; });
  return all;
}

}  // namespace switchyard
