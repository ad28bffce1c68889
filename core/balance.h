// The auxiliary losses, as functions of sums. A term is value(sums) where the sums are additive over tokens, so that it can be formed
// exactly over any scope: reduce the sums over the scope, form the value from the total, and let each part of the batch contribute (d value
// / d sums at the total, held constant) x (its own sums) to the gradient. Exact for any function of the sums, on any layout.
// Leading dimensions of the sums (sequences) stay.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/model_config.h"
#include "core/routing/statistics.h"

namespace switchyard {

/// E sum_i f_i P_i with P_i = probability_i / tokens: 1 at perfect balance (Switch, arXiv:2101.03961, equation 4). f_i = assigned_i /
/// (top_k tokens), or first_choice_i / tokens (GShard, arXiv:2006.16668, algorithm 1, and ST-MoE).
at::Tensor switch_balance_loss(const RoutingSums& sums, int64_t top_k, AuxLossCounts counts = AuxLossCounts::kAll);

/// Mean over tokens of logsumexp(logits)^2 (ST-MoE, arXiv:2202.08906, equation 5).
at::Tensor router_z_loss(const RoutingSums& sums);

/// CV(probability_i)^2 = variance / mean^2 over the experts, probability_i summed over the tokens: 0 at perfect balance (Shazeer et al.
/// 2017, arXiv:1701.06538, equation 7). Sums over no tokens give 0.
at::Tensor importance_loss(const RoutingSums& sums);

/// CV(load_i)^2 of the smooth estimate (the same paper, equation 11). `two_levels`: load of an expert in group g = load_i on the tokens
/// that visit g, times group_load_g / visits_g (appendix B).
at::Tensor load_loss(const RoutingSums& sums, bool two_levels);

/// G sum_g f_g P_g with f_g = the group's assignments / (top_k tokens), P_g = its probability: 1 at perfect balance (DeepSeek-V2's
/// device-level loss, arXiv:2405.04434, equations 24 to 26).
at::Tensor group_balance_loss(const RoutingSums& sums, int64_t top_k);

/// G sum_g v_g P_g with v_g = the tokens that visit the group / (group_top_k tokens): 1 at perfect balance (DeepSeek-V2's communication
/// loss, equations 27 to 29).
at::Tensor communication_loss(const RoutingSums& sums, int64_t group_top_k);

/// The balance of the gates inside nested experts: the mean over rows of n sum_j f_ij P_ij, where f_ij = assigned_ij / (nested_top_k x rows
/// of expert i) and P_ij = probability_ij / rows of i over the n experts inside i: 1 at perfect balance.
at::Tensor nested_balance_loss(const RoutingSums& sums, int64_t nested_experts, int64_t nested_top_k);

/// Mean over tokens of -log(probability of the experts that the token's domain owns): ties experts to domains, which nothing else does.
at::Tensor domain_loss(const RoutingSums& sums);

/// One term of the objective, over all MoE layers together.
struct BalanceTerm {
  std::string name;         ///< as metrics call it: "aux_loss"
  Coefficient coefficient;  ///< weight in the objective
  AuxLossScope scope = AuxLossScope::kGlobalBatch;
  bool linear = false;        ///< its gradient depends on the number of tokens only, which is known before the forward
  double mean_divisor = 1.0;  ///< metrics log value / mean_divisor: the mean over MoE layers
  std::function<at::Tensor(const std::vector<RoutingSums>& layers)> value = {};  ///< what the coefficient multiplies
};

/// aux_loss, z_loss, importance_loss; sequence_loss where it has a coefficient; load_loss where the rule estimates loads; group_loss and
/// communication_loss where there are groups; domain_loss where there are domains;
/// nested_loss where experts are nested. None for a dense model. Terms with coefficient 0 are kept, because metrics show their values.
/// The z-loss and the domain loss, means over tokens, are over the global batch whatever the scope of the others: there they are the same
/// in each.
std::vector<BalanceTerm> balance_terms(const ModelConfig& config);

/// How many columns the sums of each MoE layer have.
std::vector<SumsShape> sums_shapes(const ModelConfig& config);

/// A scalar with the gradient of the term over the whole scope, taken with respect to these layers' local sums. `total`: the scope's sums.
at::Tensor surrogate(const BalanceTerm& term, const std::vector<RoutingSums>& local, const std::vector<RoutingSums>& total);

/// Scope `sequence`: the term formed for each sequence of the micro-batch alone, summed over the sequences. Differentiable.
at::Tensor sum_over_sequences(const BalanceTerm& term, const std::vector<RoutingStatistics>& layers);

}  // namespace switchyard
