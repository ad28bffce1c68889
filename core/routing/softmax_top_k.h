// Softmax over all experts, then each token's k best: Switch (k = 1, arXiv:2101.03961), Mixtral (renormalised, arXiv:2401.04088), OLMoE
// (not renormalised, arXiv:2409.02060).
#pragma once

#include "core/routing/routing_rule.h"

namespace switchyard {

/// weight = p_i, divided by the sum over the chosen if config.renormalize. Equal probabilities: the lower expert number wins.
RoutingDecision softmax_top_k(const at::Tensor& logits_TE, const MoeConfig& config, const TokenContext& context);

}  // namespace switchyard
