// The auxiliary losses, as functions of sums. A term is value(sums) where the sums are additive over tokens, so that it can be formed
// exactly over any scope: reduce the sums over the scope, form the value from the total, and let each part of the batch contribute (d value
// / d sums at the total, held constant) x (its own sums) to the gradient. Exact for any function of the sums, on any layout.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/model_config.h"
#include "core/routing/statistics.h"

namespace switchyard {

/// E sum_i f_i P_i with f_i = assigned_i / (top_k tokens), P_i = probability_i / tokens: 1 at perfect balance (Switch, arXiv:2101.03961,
/// equation 4). Leading dimensions of the sums (sequences) stay.
at::Tensor switch_balance_loss(const RoutingSums& sums, int64_t top_k);

/// Mean over tokens of logsumexp(logits)^2 (ST-MoE, arXiv:2202.08906, equation 5).
at::Tensor router_z_loss(const RoutingSums& sums);

/// CV(probability_i)^2 = variance / mean^2 over the experts, probability_i summed over the tokens: 0 at perfect balance (Shazeer et al.
/// 2017, arXiv:1701.06538, equation 7). Sums over no tokens give 0.
at::Tensor importance_loss(const RoutingSums& sums);

/// One term of the objective, over all MoE layers together.
struct BalanceTerm {
  std::string name;          ///< as metrics call it: "aux_loss"
  double coefficient = 0.0;  ///< weight in the objective
  AuxLossScope scope = AuxLossScope::kGlobalBatch;
  bool linear = false;        ///< its gradient depends on the number of tokens only, which is known before the forward
  double mean_divisor = 1.0;  ///< metrics log value / mean_divisor: the mean over MoE layers
  std::function<at::Tensor(const std::vector<RoutingSums>& layers)> value = {};  ///< what the coefficient multiplies
};

/// aux_loss, z_loss and importance_loss, in this order; none for a dense model. Terms with coefficient 0 are kept, because metrics show
/// their values. The z-loss, a mean over tokens, is over the global batch whatever the scope of the others: there it is the same in each.
std::vector<BalanceTerm> balance_terms(const ModelConfig& config);

/// A scalar with the gradient of the term over the whole scope, taken with respect to these layers' local sums. `total`: the scope's sums.
at::Tensor surrogate(const BalanceTerm& term, const std::vector<RoutingSums>& local, const std::vector<RoutingSums>& total);

/// Scope `sequence`: the term formed for each sequence of the micro-batch alone, summed over the sequences. Differentiable.
at::Tensor sum_over_sequences(const BalanceTerm& term, const std::vector<RoutingStatistics>& layers);

}  // namespace switchyard
