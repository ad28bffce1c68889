// Capacity: how many assignments an expert takes from a group of tokens, and which ones are dropped. Pure index arithmetic.
// N assignments, T tokens, G capacity groups, E experts.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/model_config.h"
#include "core/routing/routing.h"

namespace switchyard {

/// capacity_G = max(min_capacity, ceil(capacity_factor * tokens * top_k / E)), tokens = unmasked tokens of the group (GShard,
/// arXiv:2006.16668, section 3.2). int64.
at::Tensor expert_capacity(const at::Tensor& tokens_G, const MoeConfig& config);

/// True where an assignment gets a slot. Within each (group, expert) assignments queue in `order`; those from capacity_G[group] on are
/// dropped. group_N: int64 group of each assignment, given in the order of token, then choice. Assignments with expert = num_experts are
/// false.
at::Tensor keep_within_capacity(const Routing& routing, const at::Tensor& group_N, const at::Tensor& capacity_G, DropOrder order);

/// The routing that is left: dropped assignments get expert = num_experts. Dropless configurations return `routing` as it is. Kept weights
/// are not renormalised.
Routing apply_capacity(const Routing& routing, const MoeConfig& config, const TokenContext& context, int64_t num_sequences,
                       int64_t sequence_length);

}  // namespace switchyard
