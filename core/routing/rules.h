// The rules of the table in routing_rule.cpp, one file each. Formulae and sources stand here, what they share in selection.h and
// noisy_gate.h. z = logits, K = top_k, E = num_experts, G = groups.
#pragma once

#include "core/routing/routing_rule.h"

namespace switchyard {

/// p = score(z), the K largest of p + selection bias, within the group_top_k best groups where there are groups; weight = p of the chosen,
/// divided by their sum if `renormalize`, times `scale`. Switch (K = 1, arXiv:2101.03961), Mixtral (arXiv:2401.04088), OLMoE
/// (arXiv:2409.02060), DeepSeek-V2 and V3 (arXiv:2405.04434, arXiv:2412.19437), Llama 4 (sigmoid, K = 1, on the experts' input), gpt-oss
/// (a softmax over the chosen logits is a renormalised softmax over all).
RoutingRule top_k_rule();

/// Every token visits every expert; weight = softmax(z) (Jacobs, Jordan, Nowlan, Hinton 1991, "Adaptive Mixtures of Local Experts").
RoutingRule dense_rule();

/// H = z + normal noise x softplus(W_noise x) in training, z otherwise; the K largest of H; weight = softmax of H over the chosen. Load:
/// noisy_gate.h (Shazeer et al. 2017, arXiv:1701.06538, equations 3 to 5 and appendix A).
RoutingRule noisy_top_k_rule();

/// Noisy top-k twice (the same paper, appendix B): group_top_k of the groups, then top_k / group_top_k experts in each of them; weight =
/// the product of both gates.
RoutingRule hierarchical_rule();

/// The two likeliest experts, weights renormalised to g1 + g2 = 1; in training the second is kept with probability min(1, 2 g2) (GShard,
/// arXiv:2006.16668, algorithm 1).
RoutingRule gshard_top_2_rule();

/// Each expert takes the C = ceil(capacity_factor x tokens x K / E) tokens of a capacity group that like it best; weight = softmax(z) over
/// the experts (expert choice, arXiv:2202.09368). Looks at later tokens.
RoutingRule expert_choice_rule();

/// In training the K largest of z after a Sinkhorn normalisation over a capacity group, otherwise of z; weight = sigmoid(z) (S-BASE: Clark
/// et al. 2022, arXiv:2202.01169, after BASE, arXiv:2103.16716).
RoutingRule sinkhorn_rule();

/// K experts by a hash of the token's id; weight 1 / K; no router weights (hash layers, arXiv:2106.04426).
RoutingRule hash_rule();

/// For benchmarks and controls, without router weights; weight 1 / K. forced_uniform: K experts in turn. forced_random: K experts at
/// random. forced_zipf: drawn without replacement, expert i with probability proportional to 1 / (i + 1).
RoutingRule forced_uniform_rule();
RoutingRule forced_random_rule();
RoutingRule forced_zipf_rule();

}  // namespace switchyard
