#include "core/block.h"

#include "core/attention.h"
#include "core/latent_attention.h"
#include "core/lstm.h"
#include "core/phase_boundary.h"
#include "core/recompute.h"

namespace switchyard {
namespace {

std::shared_ptr<SequenceMixerModule> make_sequence_mixer(const ModelConfig& config) {
  if (config.sequence_mixer == SequenceMixer::kLstm) return std::make_shared<LstmImpl>(config.hidden_size);
  if (config.attention.is_latent()) return std::make_shared<LatentAttentionImpl>(config);
  return std::make_shared<AttentionImpl>(config);
}

}  // namespace

BlockImpl::BlockImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution)
    : norms_outputs_(config.norm_placement == NormPlacement::kPost), recomputes_moe_(execution.recompute == Recompute::kMoe) {
  const std::string mixer = config.sequence_mixer == SequenceMixer::kLstm ? "lstm" : "attention";
  sequence_norm_ = register_module(mixer + "_norm", RmsNorm(config.hidden_size, config.norm_eps));
  sequence_mixer_ = register_module(mixer, make_sequence_mixer(config));
  channel_norm_ = register_module("channel_norm", RmsNorm(config.hidden_size, config.norm_eps));
  if (config.moe) {
    moe_ = register_module("moe", MoeLayer(config, dispatchers.at(config.moe->num_experts), execution));
  } else {
    feed_forward_ =
        register_module("feed_forward", FeedForward(config.hidden_size, config.ffn_hidden_size, config.activation, config.ffn_bias));
  }
}

at::Tensor BlockImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state,
                              std::vector<RoutingStatistics>& statistics) {
  const auto before = [&](RmsNorm& norm, const at::Tensor& x) { return norms_outputs_ ? x : norm->forward(x); };
  const auto behind = [&](RmsNorm& norm, const at::Tensor& x) { return norms_outputs_ ? norm->forward(x) : x; };
  const auto input_BSD = phase_boundary(before(sequence_norm_, x_BSD), context, Phase::kForward, Phase::kAttention);
  const auto mixed_BSD = sequence_mixer_->forward(input_BSD, plan, context, state);
  const auto sum_BSD = x_BSD + behind(sequence_norm_, phase_boundary(mixed_BSD, context, Phase::kAttention, Phase::kForward));
  return sum_BSD + behind(channel_norm_, mix_channels(before(channel_norm_, sum_BSD), context, statistics));
}

at::Tensor BlockImpl::mix_channels(const at::Tensor& x_BSD, const TokenContext& context, std::vector<RoutingStatistics>& statistics) {
  if (moe_.is_empty()) {
    const auto input_BSD = phase_boundary(x_BSD, context, Phase::kForward, Phase::kExperts);
    return phase_boundary(feed_forward_->forward(input_BSD), context, Phase::kExperts, Phase::kForward);
  }
  const Pass pass = [moe = moe_](const at::Tensor& x, const TokenContext& at_pass) mutable -> PassOutput {
    auto output = moe->forward(x, at_pass);
    return {std::move(output.y_BSD), {std::move(output.statistics)}};
  };
  auto output = recomputes_moe_ ? run_and_recompute(pass, x_BSD, context) : pass(x_BSD, context);
  statistics.push_back(std::move(output.statistics.front()));
  return output.y_BSD;
}

PredictionBlockImpl::PredictionBlockImpl(const ModelConfig& config, const Dispatchers& dispatchers, const ExecutionConfig& execution)
    : embedding_norm_(register_module("embedding_norm", RmsNorm(config.hidden_size, config.norm_eps))),
      hidden_norm_(register_module("hidden_norm", RmsNorm(config.hidden_size, config.norm_eps))),
      projection_D2D_(register_parameter("projection", at::empty({config.hidden_size, 2 * config.hidden_size}))),
      block_(register_module("block", Block(config, dispatchers, execution))),
      norm_(register_module("norm", RmsNorm(config.hidden_size, config.norm_eps))) {}

at::Tensor PredictionBlockImpl::joined(const at::Tensor& embedding_BSD, const at::Tensor& hidden_BSD) {
  return at::linear(at::cat({embedding_norm_->forward(embedding_BSD), hidden_norm_->forward(hidden_BSD)}, 2), projection_D2D_);
}

}  // namespace switchyard
