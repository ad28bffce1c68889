#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// The scores of the experts outside a token's best groups at -infinity.
at::Tensor within_best_groups(const at::Tensor& score_TE, const MoeConfig& config) {
  const int64_t T = score_TE.size(0), G = config.groups;
  const auto score_TGn = score_TE.view({T, G, config.num_experts / G});
  const auto group_TG = config.group_score == GroupScore::kBest ? score_TGn.amax(-1) : std::get<0>(score_TGn.topk(2, -1)).sum(-1);
  const auto chosen_TG = one_hot(best_k(group_TG, config.group_top_k), G, group_TG.options()).to(at::kBool);
  return score_TGn.masked_fill(chosen_TG.logical_not().unsqueeze(-1), -std::numeric_limits<double>::infinity()).view_as(score_TE);
}

RoutingDecision decide_top_k(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const bool is_softmax = config.score == ScoreFunction::kSoftmax;
  const auto score_TE = is_softmax ? logits.expert_TE.softmax(-1) : logits.expert_TE.sigmoid();
  auto selection_TE = score_TE.detach();
  if (logits.selection_bias_E.defined()) selection_TE = selection_TE + logits.selection_bias_E;
  trace_scores(context, is_softmax ? logits.expert_TE.detach() : selection_TE);
  const auto expert_TK = traced_choices(
      context, [&] { return best_k(config.groups > 1 ? within_best_groups(selection_TE, config) : selection_TE, config.top_k); });
  auto weight_TK = score_TE.gather(1, expert_TK);
  if (config.renormalize) weight_TK = renormalized(weight_TK);
  if (config.scale != 1.0) weight_TK = weight_TK * config.scale;
  return {rectangular_routing(expert_TK, weight_TK, config, context), is_softmax ? score_TE : renormalized(score_TE)};
}

std::vector<ConfigFault> check_top_k(const MoeConfig& config) {
  std::vector<ConfigFault> faults;
  if (config.bias_update > 0.0 && config.score == ScoreFunction::kSoftmax) {
    faults.push_back({"model.moe.bias_update",
                      "moves a bias that is added to scores which a softmax makes compete; use model.moe.score: sigmoid, or 0",
                      {"model.moe.score"}});
  }
  if (config.groups > 1 && config.group_score == GroupScore::kBestTwo && config.num_experts < 2 * config.groups) {
    faults.push_back({"model.moe.group_score",
                      "adds the two best experts of a group, and the groups have one; use best",
                      {"model.moe.groups", "model.moe.num_experts"}});
  }
  return faults;
}

}  // namespace

RoutingRule top_k_rule() {
  return {.decide = decide_top_k, .check = check_top_k};
}

}  // namespace switchyard
