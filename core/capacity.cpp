#include "core/capacity.h"

#include "core/philox.h"
#include "core/routing/routing_trace.h"

namespace switchyard {
namespace {

/// Stable order by `key_N`.
at::Tensor stable_order(const at::Tensor& key_N, bool descending) {
  return std::get<1>(key_N.sort(/*stable=*/true, /*dim=*/0, descending));
}

/// Assignments of one (group, expert) side by side, in the order in which they queue. queue_N numbers the (group, expert) pairs.
at::Tensor queue_order(const at::Tensor& queue_N, const QueueKeys& keys) {
  // Sorting by the least important key first; the list itself is in order of position.
  auto order_N = at::arange(queue_N.size(0), queue_N.options());
  const auto sort_by = [&](const at::Tensor& key_N, bool descending) {
    if (key_N.defined()) order_N = order_N.index_select(0, stable_order(key_N.index_select(0, order_N), descending));
  };
  sort_by(keys.score_N, /*descending=*/true);
  sort_by(keys.choice_N, /*descending=*/false);
  sort_by(queue_N, /*descending=*/false);
  return order_N;
}

/// A random number for each assignment.
at::Tensor random_scores(const Routing& routing, const TokenContext& context) {
  const auto uniform_TC = uniform_by_token(context, context.token_ids_BS.size(1), routing.num_choices, RandomPurpose::kDropOrder);
  return uniform_TC.flatten().index_select(0, routing.token_N * routing.num_choices + routing.choice_N);
}

QueueKeys queue_keys(const Routing& routing, DropOrder order, const TokenContext& context) {
  switch (order) {
    case DropOrder::kChoicePosition:
      return {.choice_N = routing.choice_N};
    case DropOrder::kChoiceScorePosition:
      return {.choice_N = routing.choice_N, .score_N = routing.weight_N.detach()};
    case DropOrder::kScorePosition:
      return {.score_N = routing.weight_N.detach()};
    case DropOrder::kRandom:
      break;
  }
  return {.score_N = random_scores(routing, context)};
}

}  // namespace

at::Tensor expert_capacity(const at::Tensor& tokens_G, double factor, const MoeConfig& config) {
  const double share = factor * static_cast<double>(config.top_k) / static_cast<double>(config.num_experts);
  constexpr double kRounding = 1e-9;  // 1.1 * 10 must give 11, not 12
  return (tokens_G.to(at::kDouble) * share - kRounding).ceil().clamp_min(static_cast<double>(config.min_capacity)).to(at::kLong);
}

at::Tensor keep_within_capacity(const Routing& routing, const at::Tensor& group_N, const at::Tensor& capacity_G, const QueueKeys& keys) {
  const int64_t E = routing.num_experts, N = routing.expert_N.size(0);
  const auto queue_N = group_N * (E + 1) + routing.expert_N;
  const auto order_N = queue_order(queue_N, keys);
  const auto sorted_queue_N = queue_N.index_select(0, order_N);
  const auto first_N = at::searchsorted(sorted_queue_N, sorted_queue_N);  // where the queue of this (group, expert) starts
  const auto slot_N = at::empty_like(queue_N).index_copy_(0, order_N, at::arange(N, queue_N.options()) - first_N);
  return (slot_N < capacity_G.index_select(0, group_N)).logical_and_(routing.expert_N < E);
}

int64_t sequences_a_group(const MoeConfig& config, const TokenContext& context) {
  if (!context.training) return 1;
  return config.capacity_group.sequences > 0 ? config.capacity_group.sequences : context.global_sample_B.size(0);
}

Routing apply_capacity(const Routing& routing, const MoeConfig& config, const TokenContext& context) {
  const auto& factor = context.training ? config.capacity_factor : config.eval_capacity_factor;
  if (!factor) return routing;
  const int64_t num_sequences = context.token_ids_BS.size(0), S = context.token_ids_BS.size(1);
  const int64_t group_sequences = sequences_a_group(config, context);
  TORCH_CHECK(num_sequences % group_sequences == 0, "apply_capacity: ", num_sequences, " sequences are not divisible by groups of ",
              group_sequences);
  const int64_t num_groups = num_sequences / group_sequences, group_tokens = group_sequences * S;
  const auto group_N = routing.token_N.div(group_tokens, /*rounding_mode=*/"floor");
  const auto tokens_G = context.mask_BS.defined() ? context.mask_BS.reshape({num_groups, group_tokens}).sum(1)
                                                  : at::full({num_groups}, group_tokens, routing.token_N.options());
  const auto kept_N = traced_kept(context, [&] {
    return keep_within_capacity(routing, group_N, expert_capacity(tokens_G, *factor, config),
                                queue_keys(routing, config.drop_order, context));
  });
  Routing left = routing;
  left.expert_N = routing.expert_N.where(kept_N, at::scalar_tensor(routing.num_experts, routing.expert_N.options()));
  return left;
}

}  // namespace switchyard
