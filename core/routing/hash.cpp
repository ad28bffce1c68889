#include "core/philox.h"
#include "core/routing/rules.h"
#include "core/routing/selection.h"

namespace switchyard {
namespace {

/// K different experts by the token's id and the layer: those with the largest of E random numbers.
at::Tensor hashed_experts(const RouterLogits& /*logits*/, const MoeConfig& config, const TokenContext& context) {
  const auto token_T1 = context.token_ids_BS.reshape({-1, 1});
  const auto random_TE = uniform_by_number(token_T1.squeeze(1), config.num_experts, context.layer, RandomPurpose::kHash);
  return best_k(random_TE, config.top_k);
}

}  // namespace

RoutingRule hash_rule() {
  return rule_without_weights(hashed_experts);
}

}  // namespace switchyard
