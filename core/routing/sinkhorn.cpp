// H groups of tokens, t tokens a group, E experts.
#include "core/capacity.h"
#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// z plus what brings every expert the same total and every token 1, as far as the iterations get: rows and columns of exp(z + u + v) are
/// normalised in turn, in logarithms. A fixed number of times: waiting for convergence would ask the device at every round.
at::Tensor sinkhorn_normalized(const at::Tensor& logit_HtE, const at::Tensor& is_real_Ht) {
  constexpr int kIterations = 16;
  constexpr double kNothing = -1e30;  // not -inf, whose differences are no numbers, where a group is nothing but padding
  const auto padding_Ht1 = is_real_Ht.logical_not().unsqueeze(-1);
  const auto log_share_H =
      (is_real_Ht.sum(1, /*keepdim=*/true).clamp_min(1).to(logit_HtE.scalar_type()) / static_cast<double>(logit_HtE.size(2))).log();
  auto expert_H1E = at::zeros({logit_HtE.size(0), 1, logit_HtE.size(2)}, logit_HtE.options());
  for (int i = 0; i < kIterations; ++i) {
    const auto token_Ht1 = -(logit_HtE + expert_H1E).logsumexp(-1, /*keepdim=*/true);
    const auto filled_HtE = (logit_HtE + token_Ht1).masked_fill(padding_Ht1, kNothing);
    expert_H1E = log_share_H.unsqueeze(-1) - filled_HtE.logsumexp(1, /*keepdim=*/true);
  }
  return logit_HtE + expert_H1E;  // what is added to all experts of a token alike does not change its choice
}

RoutingDecision decide_sinkhorn(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  auto selection_TE = logits.expert_TE.detach();
  if (context.training) {
    const int64_t num_groups = context.global_sample_B.size(0) / sequences_a_group(config, context);
    const int64_t t = logits.num_tokens / num_groups;
    selection_TE =
        sinkhorn_normalized(selection_TE.view({num_groups, t, config.num_experts}), is_real_token(context, logits).view({num_groups, t}))
            .view_as(selection_TE);
  }
  trace_scores(context, selection_TE);
  const auto expert_TK = traced_choices(context, [&] { return best_k(selection_TE, config.top_k); });
  const auto weight_TK = logits.expert_TE.sigmoid().gather(1, expert_TK);
  return {rectangular_routing(expert_TK, weight_TK, config, context), logits.expert_TE.softmax(-1)};
}

}  // namespace

RoutingRule sinkhorn_rule() {
  return {.decide = decide_sinkhorn, .compares_tokens = true};
}

}  // namespace switchyard
