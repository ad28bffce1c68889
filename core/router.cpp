#include "core/router.h"

#include "core/dtypes.h"
#include "core/philox.h"
#include "core/routing/routing_trace.h"

namespace switchyard {
namespace {

/// x W^T + b; undefined where there is no W.
at::Tensor mapped(const at::Tensor& x_TD, const at::Tensor& weight, const at::Tensor& bias = {}) {
  if (!weight.defined()) return {};
  const auto logits = at::linear(x_TD, widen(weight));
  return bias.defined() ? logits + widen(bias) : logits;
}

}  // namespace

RouterImpl::RouterImpl(const MoeConfig& config, int64_t hidden_size) : config_(config), rule_(routing_rules().at(config.router)) {
  const auto add = [&](const char* name, int64_t rows) { return register_parameter(name, at::empty({rows, hidden_size})); };
  const auto& maps = rule_.maps;
  if (maps.experts) weight_ED_ = add("weight", config.num_experts);
  if (maps.experts && config.router_bias) bias_E_ = register_parameter("bias", at::empty({config.num_experts}));
  if (maps.experts && maps.noise) noise_weight_ED_ = add("noise_weight", config.num_experts);
  if (maps.groups) group_weight_GD_ = add("group_weight", config.groups);
  if (maps.groups && maps.noise) group_noise_weight_GD_ = add("group_noise_weight", config.groups);
  if (config.bias_update > 0.0) selection_bias_E_ = register_buffer("selection_bias", at::zeros({config.num_experts}, at::kFloat));
}

RouterOutput RouterImpl::forward(const at::Tensor& x_TD, const TokenContext& context) {
  const auto x = jittered(widen(x_TD), context);
  RouterLogits logits{.num_tokens = x.size(0), .options = x.options()};
  logits.expert_TE = mapped(x, weight_ED_, bias_E_);
  if (logits.expert_TE.defined()) trace_logits(context, logits.expert_TE.detach());
  logits.expert_noise_TE = mapped(x, noise_weight_ED_);
  logits.group_TG = mapped(x, group_weight_GD_);
  logits.group_noise_TG = mapped(x, group_noise_weight_GD_);
  if (selection_bias_E_.defined()) logits.selection_bias_E = selection_bias_E_.to(x.scalar_type());
  auto decision = rule_.decide(logits, config_, context);
  return {std::move(decision), std::move(logits)};
}

at::Tensor RouterImpl::jittered(const at::Tensor& x_TD, const TokenContext& context) const {
  if (!context.training || config_.input_jitter == 0.0) return x_TD;
  const int64_t S = x_TD.size(0) / context.global_sample_B.size(0);
  const auto uniform_TD = uniform_by_token(context, S, x_TD.size(1), RandomPurpose::kRouterInputJitter).to(x_TD.scalar_type());
  return x_TD * (1.0 - config_.input_jitter + 2.0 * config_.input_jitter * uniform_TD);
}

}  // namespace switchyard
