// What routing rules share: choosing by score, and writing choices as a routing. T tokens, E experts, K choices.
#pragma once

#include <functional>

#include "core/routing/routing_rule.h"

namespace switchyard {

/// int64 [T, k]: places of the k largest of each row, the largest first; of equals the lower place. Never topk, which leaves that open.
at::Tensor best_k(const at::Tensor& score_TE, int64_t k);

/// K experts of every token in the order of choice, with their weights.
Routing rectangular_routing(const at::Tensor& expert_TK, const at::Tensor& weight_TK, int64_t num_experts);
/// The same of the configured experts; masked tokens go nowhere.
Routing rectangular_routing(at::Tensor expert_TK, const at::Tensor& weight_TK, const MoeConfig& config, const TokenContext& context);

/// weight_TK divided by its sum over the choices.
at::Tensor renormalized(const at::Tensor& weight_TK);

/// 1 / K for each of these choices.
at::Tensor equal_weights(const at::Tensor& expert_TK, const at::TensorOptions& options);

/// [T, E], 1 where a token chose an expert.
at::Tensor one_hot(const at::Tensor& expert_TK, int64_t num_experts, const at::TensorOptions& options);

/// A rule without maps, whose experts `choose` names ([T, K]); each weighs 1 / K.
using ChooseExperts = std::function<at::Tensor(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context)>;
RoutingRule rule_without_weights(ChooseExperts choose);

/// bool [T]; undefined mask: all true.
at::Tensor is_real_token(const TokenContext& context, const RouterLogits& logits);

}  // namespace switchyard
