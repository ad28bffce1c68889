#include "core/routing/routing_trace.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

RoutingDecision decide_dense(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const auto probability_TE = logits.expert_TE.softmax(-1);
  const auto expert_TE = traced_choices(context, [&] {
    return at::arange(config.num_experts, logits.options.dtype(at::kLong)).expand({logits.num_tokens, config.num_experts});
  });
  return {rectangular_routing(expert_TE, probability_TE.gather(1, expert_TE), config, context), probability_TE};
}

std::vector<ConfigFault> check_dense(const MoeConfig& config) {
  std::vector<ConfigFault> faults;
  if (config.top_k != config.num_experts) {
    faults.push_back({"model.moe.top_k",
                      "is not model.moe.num_experts, and a dense gate visits them all; use " + std::to_string(config.num_experts),
                      {"model.moe.num_experts"}});
  }
  if (config.capacity_factor)
    faults.push_back({"model.moe.capacity_factor", "drops assignments of a gate that makes all of them; use null"});
  return faults;
}

}  // namespace

RoutingRule dense_rule() {
  return {.decide = decide_dense, .check = check_dense};
}

}  // namespace switchyard
