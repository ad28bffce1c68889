// Experts that are MoE layers of their own (Shazeer et al. 2017, arXiv:1701.06538, appendix B, in general form): a softmax gate inside each
// expert shares the expert's rows out between n smaller experts. A row travels to its outer expert once; what happens inside stays there.
// e outer experts held here, n experts inside each, M = e n, R rows (with padding), D model width.
#pragma once

#include <functional>

#include "core/experts.h"

namespace switchyard {

struct NestedOutput {
  at::Tensor y_RD;
  at::Tensor assigned_M;     ///< rows by inner expert, float64
  at::Tensor probability_M;  ///< sum of the gates' probabilities over the rows (grad), max(fp32, run dtype)
};

/// y of a row x of outer expert i = sum over the config.nested_top_k best j of weight_j FFN_ij(x), weight = softmax(W_i x), renormalised
/// over the chosen where there are several. weights: nested_router [M, D] and the stacked inner experts, M each. dropout: what the
/// activations of these inner rows are multiplied by; may be undefined.
NestedOutput apply_nested_experts(const ExpertRows& input, const ExpertWeights& weights, const MoeConfig& config,
                                  const std::function<at::Tensor(const ExpertRows& inner)>& dropout);

}  // namespace switchyard
