#include "core/capacity.h"

#include "core/routing/routing_trace.h"

namespace switchyard {
namespace {

/// Stable ascending order by an integer key.
at::Tensor stable_order(const at::Tensor& key_N) {
  return std::get<1>(key_N.sort(/*stable=*/true, /*dim=*/0, /*descending=*/false));
}

/// Assignments of one (group, expert) side by side, in the order in which they queue. key_N numbers the (group, expert) pairs.
at::Tensor queue_order(const Routing& routing, const at::Tensor& key_N, DropOrder order) {
  // Sorting by the least important key first; the list itself is in order of position.
  auto order_N = at::arange(key_N.size(0), key_N.options());
  if (order != DropOrder::kChoicePosition) {
    order_N = std::get<1>(routing.weight_N.detach().sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
  }
  if (order != DropOrder::kScorePosition) {
    order_N = order_N.index_select(0, stable_order(routing.choice_N.index_select(0, order_N)));
  }
  return order_N.index_select(0, stable_order(key_N.index_select(0, order_N)));
}

}  // namespace

at::Tensor expert_capacity(const at::Tensor& tokens_G, const MoeConfig& config) {
  const double share = *config.capacity_factor * static_cast<double>(config.top_k) / static_cast<double>(config.num_experts);
  constexpr double kRounding = 1e-9;  // 1.1 * 10 must give 11, not 12
  return (tokens_G.to(at::kDouble) * share - kRounding).ceil().clamp_min(static_cast<double>(config.min_capacity)).to(at::kLong);
}

at::Tensor keep_within_capacity(const Routing& routing, const at::Tensor& group_N, const at::Tensor& capacity_G, DropOrder order) {
  const int64_t E = routing.num_experts, N = routing.expert_N.size(0);
  const auto key_N = group_N * (E + 1) + routing.expert_N;
  const auto order_N = queue_order(routing, key_N, order);
  const auto sorted_key_N = key_N.index_select(0, order_N);
  const auto first_N = at::searchsorted(sorted_key_N, sorted_key_N);  // where the queue of this (group, expert) starts
  const auto slot_N = at::empty_like(key_N).index_copy_(0, order_N, at::arange(N, key_N.options()) - first_N);
  return (slot_N < capacity_G.index_select(0, group_N)).logical_and_(routing.expert_N < E);
}

Routing apply_capacity(const Routing& routing, const MoeConfig& config, const TokenContext& context, int64_t num_sequences,
                       int64_t sequence_length) {
  if (!config.capacity_factor) return routing;
  const int64_t group_sequences = config.capacity_group.sequences > 0 ? config.capacity_group.sequences : num_sequences;
  TORCH_CHECK(num_sequences % group_sequences == 0, "apply_capacity: ", num_sequences, " sequences are not divisible by groups of ",
              group_sequences);
  const int64_t num_groups = num_sequences / group_sequences, group_tokens = group_sequences * sequence_length;
  const auto group_N = routing.token_N.div(group_tokens, /*rounding_mode=*/"floor");
  const auto tokens_G = context.mask_BS.defined() ? context.mask_BS.view({num_groups, group_tokens}).sum(1)
                                                  : at::full({num_groups}, group_tokens, routing.token_N.options());
  const auto kept_N =
      traced_kept(context, [&] { return keep_within_capacity(routing, group_N, expert_capacity(tokens_G, config), config.drop_order); });
  Routing left = routing;
  left.expert_N = routing.expert_N.where(kept_N, at::scalar_tensor(routing.num_experts, routing.expert_N.options()));
  return left;
}

}  // namespace switchyard
