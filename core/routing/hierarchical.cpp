// T tokens, G groups, n experts a group, g groups a token visits, k experts in each of them; E = G n, K = g k.
#include "core/routing/noisy_gate.h"
#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// [T, K] experts: the k best of the best group, then those of the second, ...
at::Tensor best_of_best_groups(const at::Tensor& group_TG, const at::Tensor& expert_TGn, int64_t num_groups, int64_t k) {
  const int64_t T = group_TG.size(0), n = expert_TGn.size(2);
  const auto group_Tg = best_k(group_TG, num_groups);
  const auto place_TGk = best_k(expert_TGn, k);
  const auto place_Tgk = place_TGk.gather(1, group_Tg.unsqueeze(-1).expand({T, num_groups, k}));
  return (group_Tg.unsqueeze(-1) * n + place_Tgk).flatten(1);
}

RoutingDecision decide_hierarchical(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const int64_t T = logits.num_tokens, E = config.num_experts, G = config.groups, n = E / G;
  const int64_t g = config.group_top_k, k = config.top_k / g;
  const auto group = add_noise(logits.group_TG, logits.group_noise_TG, context, RandomPurpose::kGroupNoise);
  const auto flat = add_noise(logits.expert_TE, logits.expert_noise_TE, context, RandomPurpose::kRouterNoise);
  const NoisyLogits expert{flat.clean_Tn.view({T, G, n}), flat.deviation_Tn.view({T, G, n}), flat.noisy_Tn.view({T, G, n})};
  trace_scores(context, flat.noisy_Tn.detach());
  const auto expert_TK =
      traced_choices(context, [&] { return best_of_best_groups(group.noisy_Tn.detach(), expert.noisy_Tn.detach(), g, k); });

  const auto group_Tg = expert_TK.view({T, g, k}).select(2, 0).div(n, /*rounding_mode=*/"floor");
  const auto chosen_TG = one_hot(group_Tg, G, logits.options);
  // Every group has its k best, though only those of the visited groups count.
  auto best_TGn = at::zeros({T, G, n}, logits.options).scatter_(2, best_k(expert.noisy_Tn.detach(), k), 1.0);
  const auto chosen_TGn = one_hot(expert_TK, E, logits.options).view({T, G, n});
  best_TGn = at::where(chosen_TG.unsqueeze(-1).to(at::kBool), chosen_TGn, best_TGn);  // given choices stand
  const auto gate_TGn = gate_over(group.noisy_Tn, chosen_TG).unsqueeze(-1) * gate_over(expert.noisy_Tn, best_TGn);
  const auto gate_TE = gate_TGn.flatten(1);
  const auto load_TGn = smooth_load(expert, best_TGn, k) * chosen_TG.unsqueeze(-1);
  return {rectangular_routing(expert_TK, gate_TE.gather(1, expert_TK), config, context), gate_TE, load_TGn.flatten(1),
          smooth_load(group, chosen_TG, g)};
}

std::vector<ConfigFault> check_hierarchical(const MoeConfig& config) {
  std::vector<ConfigFault> faults;
  if (config.groups < 2) faults.push_back({"model.moe.groups", "leaves the first of two gates nothing to choose; use 2 or more"});
  if (config.top_k % config.group_top_k != 0) {
    faults.push_back({"model.moe.top_k",
                      "is not divisible by model.moe.group_top_k = " + std::to_string(config.group_top_k) +
                          "; let each group that a token visits give equally many experts",
                      {"model.moe.group_top_k"}});
  }
  if (config.top_k == 1) {
    faults.push_back({"model.moe.top_k", "gives the only expert always the weight 1, so that the router learns nothing; use 2 or more"});
  }
  return faults;
}

}  // namespace

RoutingRule hierarchical_rule() {
  return {.decide = decide_hierarchical, .maps = {.noise = true, .groups = true}, .check = check_hierarchical, .has_load = true};
}

}  // namespace switchyard
