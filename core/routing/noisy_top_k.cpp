#include "core/routing/noisy_gate.h"
#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

RoutingDecision decide_noisy_top_k(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const auto gate = add_noise(logits.expert_TE, logits.expert_noise_TE, context, RandomPurpose::kRouterNoise);
  trace_scores(context, gate.noisy_Tn.detach());
  const auto expert_TK = traced_choices(context, [&] { return best_k(gate.noisy_Tn.detach(), config.top_k); });
  const auto chosen_TE = one_hot(expert_TK, config.num_experts, logits.options);
  const auto gate_TE = gate_over(gate.noisy_Tn, chosen_TE);
  return {rectangular_routing(expert_TK, gate_TE.gather(1, expert_TK), config, context), gate_TE,
          smooth_load(gate, chosen_TE, config.top_k)};
}

std::vector<ConfigFault> check_noisy_top_k(const MoeConfig& config) {
  if (config.top_k > 1) return {};
  return {{"model.moe.top_k",
           "gives the only expert of a softmax over the chosen always the weight 1, so that the router learns nothing; use 2 or more"}};
}

}  // namespace

RoutingRule noisy_top_k_rule() {
  return {.decide = decide_noisy_top_k, .maps = {.noise = true}, .check = check_noisy_top_k, .has_load = true};
}

}  // namespace switchyard
