#include "core/routing/selection.h"

#include "core/routing/routing_trace.h"

namespace switchyard {

at::Tensor best_k(const at::Tensor& score_TE, int64_t k) {
  return std::get<1>(score_TE.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true)).narrow(-1, 0, k);
}

Routing rectangular_routing(const at::Tensor& expert_TK, const at::Tensor& weight_TK, int64_t num_experts) {
  const int64_t T = expert_TK.size(0), K = expert_TK.size(1);
  const auto options = expert_TK.options();
  Routing routing;
  routing.token_N = at::arange(T, options).repeat_interleave(K);
  routing.expert_N = expert_TK.reshape({T * K});
  routing.weight_N = weight_TK.reshape({T * K});
  routing.choice_N = at::arange(K, options).repeat({T});
  routing.num_experts = num_experts;
  routing.num_choices = K;
  routing.is_rectangle = true;
  return routing;
}

Routing rectangular_routing(at::Tensor expert_TK, const at::Tensor& weight_TK, const MoeConfig& config, const TokenContext& context) {
  const int64_t T = expert_TK.size(0), E = config.num_experts;
  if (context.mask_BS.defined()) expert_TK = expert_TK.where(context.mask_BS.reshape({T, 1}), at::scalar_tensor(E, expert_TK.options()));
  return rectangular_routing(expert_TK, weight_TK, E);
}

at::Tensor renormalized(const at::Tensor& weight_TK) {
  constexpr double kNothing = 1e-20;  // all sigmoids of a token can be zero
  return weight_TK / (weight_TK.sum(-1, /*keepdim=*/true) + kNothing);
}

at::Tensor equal_weights(const at::Tensor& expert_TK, const at::TensorOptions& options) {
  return at::full(expert_TK.sizes(), 1.0 / static_cast<double>(expert_TK.size(1)), options);
}

at::Tensor one_hot(const at::Tensor& expert_TK, int64_t num_experts, const at::TensorOptions& options) {
  return at::zeros({expert_TK.size(0), num_experts}, options).scatter_(1, expert_TK, 1.0);
}

at::Tensor is_real_token(const TokenContext& context, const RouterLogits& logits) {
  return context.mask_BS.defined() ? context.mask_BS.reshape({-1}) : at::ones({logits.num_tokens}, logits.options.dtype(at::kBool));
}

RoutingRule rule_without_weights(ChooseExperts choose) {
  RoutingRule rule;
  rule.maps.experts = false;
  rule.decide = [choose = std::move(choose)](const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
    const auto expert_TK = traced_choices(context, [&] { return choose(logits, config, context); });
    const auto share_TE = one_hot(expert_TK, config.num_experts, logits.options) / static_cast<double>(config.top_k);
    return RoutingDecision{rectangular_routing(expert_TK, equal_weights(expert_TK, logits.options), config, context), share_TE};
  };
  return rule;
}

}  // namespace switchyard
