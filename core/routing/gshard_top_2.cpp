#include "core/philox.h"
#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// bool [T]: whether the second expert is visited.
at::Tensor keeps_second(const at::Tensor& weight_T2, const TokenContext& context) {
  const int64_t S = weight_T2.size(0) / context.global_sample_B.size(0);
  const auto uniform_T = uniform_by_token(context, S, 1, RandomPurpose::kSecondExpert).select(1, 0);
  return uniform_T < 2.0 * weight_T2.detach().select(1, 1);
}

RoutingDecision decide_gshard_top_2(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const auto probability_TE = logits.expert_TE.softmax(-1);
  trace_scores(context, logits.expert_TE.detach());
  const auto expert_T2 = traced_choices(context, [&] { return best_k(probability_TE.detach(), 2); });
  const auto weight_T2 = renormalized(probability_TE.gather(1, expert_T2));
  auto routing = rectangular_routing(expert_T2, weight_T2, config, context);
  if (context.training) {
    const auto second_T = keeps_second(weight_T2, context);
    const auto visits_N = at::stack({at::ones_like(second_T), second_T}, 1).flatten();
    routing.expert_N = routing.expert_N.where(visits_N, at::scalar_tensor(config.num_experts, routing.expert_N.options()));
  }
  return {std::move(routing), probability_TE};
}

std::vector<ConfigFault> check_gshard_top_2(const MoeConfig& config) {
  if (config.top_k == 2) return {};
  return {{"model.moe.top_k", "is not 2, and GShard's gate takes two experts; use 2, or model.moe.router: top_k", {"model.moe.router"}}};
}

}  // namespace

RoutingRule gshard_top_2_rule() {
  return {.decide = decide_gshard_top_2, .check = check_gshard_top_2};
}

}  // namespace switchyard
