// Routing rules without a router around them.
#pragma once

#include "core/routing/routing_rule.h"
#include "tests/tiny_models.h"

namespace switchyard {

inline MoeConfig experts_config(int64_t num_experts, int64_t top_k, bool renormalize = false, const std::string& router = "top_k") {
  MoeConfig config;
  config.router = router;
  config.num_experts = num_experts;
  config.top_k = top_k;
  config.renormalize = renormalize;
  return config;
}

/// A router's only map.
inline RouterLogits logits_of(const at::Tensor& expert_TE) {
  return {.num_tokens = expert_TE.size(0), .options = expert_TE.options(), .expert_TE = expert_TE};
}

/// What config.router decides.
inline RoutingDecision decide(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  return routing_rules().at(config.router).decide(logits, config, context);
}
inline RoutingDecision decide(const at::Tensor& expert_TE, const MoeConfig& config, const TokenContext& context) {
  return decide(logits_of(expert_TE), config, context);
}

/// Experts by token and choice.
inline at::Tensor choices(const Routing& routing) {
  return routing.expert_N.view({-1, routing.num_choices});
}
inline at::Tensor weights(const Routing& routing) {
  return routing.weight_N.view({-1, routing.num_choices});
}

}  // namespace switchyard
