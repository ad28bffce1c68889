#include "core/philox.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

int64_t sequence_length(const RouterLogits& logits, const TokenContext& context) {
  return logits.num_tokens / context.global_sample_B.size(0);
}

at::Tensor in_turn(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const int64_t S = sequence_length(logits, context), K = config.top_k;
  const auto options = context.global_sample_B.options();
  const auto token_T = (context.global_sample_B.unsqueeze(1) * S + at::arange(S, options)).flatten();
  return (token_T.unsqueeze(1) * K + at::arange(K, options)).remainder(config.num_experts);
}

at::Tensor at_random(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  return best_k(uniform_by_token(context, sequence_length(logits, context), config.num_experts, RandomPurpose::kForcedRouting),
                config.top_k);
}

/// The largest of log(weight) + Gumbel noise are a draw without replacement by weight (Kool et al. 2019, arXiv:1903.06059).
at::Tensor by_zipf(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const int64_t E = config.num_experts;
  const auto uniform_TE = uniform_by_token(context, sequence_length(logits, context), E, RandomPurpose::kForcedRouting).to(at::kDouble);
  constexpr double kHalfAStep = 0.5 / (1 << 24);  // the numbers are multiples of 2^-24: never 0, never 1
  const auto gumbel_TE = -(-(uniform_TE + kHalfAStep).log()).log();
  const auto rank_E = at::arange(1, E + 1, gumbel_TE.options());
  return best_k(gumbel_TE - rank_E.log(), config.top_k);
}

RoutingRule forced(ChooseExperts choose) {
  auto rule = rule_without_weights(std::move(choose));
  rule.uses_places = true;
  return rule;
}

}  // namespace

RoutingRule forced_uniform_rule() {
  return forced(in_turn);
}

RoutingRule forced_random_rule() {
  return forced(at_random);
}

RoutingRule forced_zipf_rule() {
  return forced(by_zipf);
}

}  // namespace switchyard
