// A routing rule turns router logits into assignments. One small file a rule, registered by name in one table; adding a rule = its
// function, a line in the table, a test.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/model_config.h"
#include "core/routing/routing.h"

namespace switchyard {

struct RoutingDecision {
  Routing routing;
  at::Tensor probability_TE;  ///< what the balancing terms call P, differentiable, max(fp32, run dtype)
};

/// logits_TE in max(fp32, run dtype); tokens are the rows of [B, S] in order. Masked tokens get expert = num_experts.
using RoutingRule = std::function<RoutingDecision(const at::Tensor& logits_TE, const MoeConfig& config, const TokenContext& context)>;

/// All rules by their name in the configuration (`model.moe.router`).
const std::map<std::string, RoutingRule>& routing_rules();

}  // namespace switchyard
