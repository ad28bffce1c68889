// Capacity: how many assignments an expert takes from a group of tokens, and which ones are dropped. Pure index arithmetic.
// N assignments, T tokens, G capacity groups, E experts.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/model_config.h"
#include "core/routing/routing.h"

namespace switchyard {

/// capacity_G = max(min_capacity, ceil(factor * tokens * top_k / E)), tokens = unmasked tokens of the group (GShard, arXiv:2006.16668,
/// section 3.2). int64.
at::Tensor expert_capacity(const at::Tensor& tokens_G, double factor, const MoeConfig& config);

/// The keys by which assignments queue for an expert's slots, the first one first; ties and `position` by the place in the list, which is
/// in the order of token, then choice.
struct QueueKeys {
  at::Tensor choice_N = {};  ///< int64, ascending; undefined = not asked
  at::Tensor score_N = {};   ///< descending; undefined = not asked
};

/// True where an assignment gets a slot: within each (group, expert) those from capacity_G[group] on are dropped. group_N: int64 group of
/// each assignment. Assignments with expert = num_experts are false.
at::Tensor keep_within_capacity(const Routing& routing, const at::Tensor& group_N, const at::Tensor& capacity_G, const QueueKeys& keys);

/// Sequences that compete for experts: those of a capacity group in training; otherwise each alone, so that a text's likelihood does not
/// depend on its neighbours in the batch.
int64_t sequences_a_group(const MoeConfig& config, const TokenContext& context);

/// The routing that is left: dropped assignments get expert = num_experts. Without a factor (capacity_factor in training,
/// eval_capacity_factor otherwise) `routing` as it is. Kept weights are not renormalised.
Routing apply_capacity(const Routing& routing, const MoeConfig& config, const TokenContext& context);

}  // namespace switchyard
