// H groups of tokens, t tokens a group, E experts. A token's choices are listed by expert number: choice i is "expert i" or "nowhere".
#include "core/capacity.h"
#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// bool [T, E]: the tokens that each expert takes; equal ones by position.
at::Tensor taken_tokens(const at::Tensor& probability_TE, const at::Tensor& is_real_T, int64_t num_groups, const MoeConfig& config) {
  const int64_t t = is_real_T.size(0) / num_groups, E = config.num_experts;
  const auto is_real_Ht = is_real_T.view({num_groups, t});
  const auto score_HtE = probability_TE.masked_fill(is_real_T.logical_not().unsqueeze(1), -1.0).view({num_groups, t, E});
  const auto order_HtE = std::get<1>(score_HtE.sort(/*stable=*/true, /*dim=*/1, /*descending=*/true));
  const auto place_t = at::arange(t, order_HtE.options()).view({1, t, 1});
  const auto place_HtE = at::empty_like(order_HtE).scatter_(1, order_HtE, place_t.expand_as(order_HtE));
  const auto capacity_H = expert_capacity(is_real_Ht.sum(1), config.capacity_factor.value_or(1.0), config);
  return (place_HtE < capacity_H.view({-1, 1, 1})).logical_and(is_real_Ht.unsqueeze(-1)).view_as(probability_TE);
}

RoutingDecision decide_expert_choice(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const int64_t E = config.num_experts;
  const int64_t num_groups = context.global_sample_B.size(0) / sequences_a_group(config, context);
  const auto probability_TE = logits.expert_TE.softmax(-1);
  trace_scores(context, logits.expert_TE.detach());
  const auto expert_TE = traced_choices(context, [&] {
    const auto taken_TE = taken_tokens(probability_TE.detach(), is_real_token(context, logits), num_groups, config);
    const auto number_E = at::arange(E, taken_TE.options().dtype(at::kLong));
    return number_E.expand_as(taken_TE).where(taken_TE, at::scalar_tensor(E, number_E.options()));
  });
  return {rectangular_routing(expert_TE, probability_TE, config, context), probability_TE};
}

}  // namespace

RoutingRule expert_choice_rule() {
  return {.decide = decide_expert_choice,
          .num_choices = [](const MoeConfig& config) { return config.num_experts; },
          .fills_capacity = true,
          .compares_tokens = true,
          .looks_ahead = true};
}

}  // namespace switchyard
