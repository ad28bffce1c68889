#include "core/philox.h"
#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// K different experts by the token's id and the layer: those with the largest of E random numbers.
at::Tensor hashed_experts(const MoeConfig& config, const TokenContext& context) {
  const auto token_T1 = context.token_ids_BS.reshape({-1, 1});
  const auto random_TE = uniform_by_number(token_T1.squeeze(1), config.num_experts, context.layer, RandomPurpose::kHash);
  return best_k(random_TE, config.top_k);
}

RoutingDecision decide_hash(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const auto expert_TK = traced_choices(context, [&] { return hashed_experts(config, context); });
  const auto weight_TK = equal_weights(expert_TK, logits.options);
  const auto share_TE = one_hot(expert_TK, config.num_experts, logits.options) / static_cast<double>(config.top_k);
  return {rectangular_routing(expert_TK, weight_TK, config, context), share_TE};
}

}  // namespace

RoutingRule hash_rule() {
  return {.decide = decide_hash, .maps = {.experts = false}};
}

}  // namespace switchyard
