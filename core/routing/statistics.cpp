#include "core/routing/statistics.h"

#include "core/host_copy.h"

namespace switchyard {
namespace {

/// Sum over a sequence's tokens of a value per token, in float64. B sequences.
at::Tensor sum_by_sequence(const at::Tensor& value_T, int64_t B) {
  return value_T.view({B, value_T.size(0) / B}).to(at::kDouble).sum(1);
}

/// The same of several values a token.
at::Tensor rows_by_sequence(const at::Tensor& value_Tn, int64_t B) {
  return value_Tn.view({B, value_Tn.size(0) / B, value_Tn.size(1)}).to(at::kDouble).sum(1);
}

/// The values of a token's choices side by side: [T, num_choices].
at::Tensor by_token(const at::Tensor& value_N, const Routing& routing, int64_t num_tokens) {
  if (routing.is_rectangle) return value_N.view({num_tokens, routing.num_choices});
  return at::zeros({num_tokens * routing.num_choices}, value_N.options())
      .index_copy_(0, routing.token_N * routing.num_choices + routing.choice_N, value_N)
      .view({num_tokens, routing.num_choices});
}

/// Tokens of each sequence that visit each group of experts.
at::Tensor group_visits(const Routing& routing, const SumsShape& shape, int64_t num_tokens, int64_t B) {
  const int64_t G = shape.num_groups, experts_a_group = shape.num_experts / G;
  // "Nowhere" is a group of its own, behind the last.
  const auto group_N = routing.expert_N.div(experts_a_group, /*rounding_mode=*/"floor").clamp_max(G);
  auto visits_TG = at::zeros({num_tokens, G + 1}, group_N.options().dtype(at::kDouble));
  visits_TG.view({-1}).index_fill_(0, routing.token_N * (G + 1) + group_N, 1.0);
  return rows_by_sequence(visits_TG.narrow(1, 0, G), B);
}

/// Whether `after` is what the router decided, without anything that could have dropped some of it.
bool drops_nothing(const Routing& before, const Routing& after) {
  return after.expert_N.is_same(before.expert_N);
}

void add_counts(RoutingStatistics& statistics, const Routing& before, const Routing& after, const SumsShape& shape, int64_t num_tokens,
                int64_t B) {
  // "Nowhere" is counted in a column of its own and left out.
  const int64_t columns = shape.num_experts + 1;
  const auto first_key_N = before.token_N.div(num_tokens / B, /*rounding_mode=*/"floor") * columns;
  const auto count = [&](const at::Tensor& expert_N) {
    return count_keys(first_key_N + expert_N, B * columns).view({B, columns}).narrow(1, 0, shape.num_experts);
  };
  const auto first_choices = [&] {
    return before.expert_N.where(before.choice_N == 0, at::scalar_tensor(shape.num_experts, before.expert_N.options()));
  };
  const auto& assigned_BE = statistics.assigned_BE = count(before.expert_N);
  statistics.dropped_BE = drops_nothing(before, after) ? at::zeros_like(assigned_BE) : assigned_BE - count(after.expert_N);
  statistics.first_choice_BE = before.num_choices == 1 ? assigned_BE : count(first_choices());
}

/// What is added up of each token, without a gradient.
struct TokenValues {
  at::Tensor visits_T;  ///< 1 where some expert was chosen
  at::Tensor lost_T, gate_mass_T, dropped_gate_mass_T, entropy_T, margin_T, non_finite_T;
};

void add_gates(TokenValues& values, const Routing& before, const Routing& after, int64_t num_tokens) {
  const auto wanted_TK = by_token(before.expert_N < before.num_experts, before, num_tokens);
  const auto weight_TK = by_token(before.weight_N.detach(), before, num_tokens) * wanted_TK;
  const auto as_values = [&](const at::Tensor& is_true_T) { return is_true_T.to(weight_TK.scalar_type()); };
  const auto visits_T = wanted_TK.any(1);
  values.visits_T = as_values(visits_T);
  values.gate_mass_T = weight_TK.sum(1);
  if (drops_nothing(before, after)) {
    values.lost_T = as_values(visits_T.logical_not());
    values.dropped_gate_mass_T = at::zeros_like(values.gate_mass_T);
  } else {
    const auto kept_TK = by_token(after.expert_N < after.num_experts, after, num_tokens);
    values.lost_T = as_values(kept_TK.any(1).logical_not());
    values.dropped_gate_mass_T = (weight_TK * kept_TK.logical_not()).sum(1);
  }
}

void add_probabilities(TokenValues& values, const at::Tensor& probability_TE) {
  const auto p_TE = probability_TE.detach();
  values.entropy_T = (p_TE * p_TE.clamp_min(1e-30).log()).sum(1).neg_();
  if (p_TE.size(1) > 1) {
    const auto best_T2 = std::get<0>(p_TE.topk(2, 1));
    values.margin_T = best_T2.select(1, 0) - best_T2.select(1, 1);
  } else {
    values.margin_T = at::zeros_like(values.entropy_T);
  }
}

/// All at once: a sum is little work, and a call for each would take longer than that.
void add_sums(RoutingStatistics& statistics, const TokenValues& values, const at::Tensor& mask_T, int64_t B) {
  auto value_Tn = at::stack({values.lost_T, values.gate_mass_T, values.dropped_gate_mass_T, values.entropy_T, values.margin_T,
                             values.non_finite_T, values.visits_T},
                            1);
  const auto sum_Bn = rows_by_sequence(value_Tn.mul_(mask_T.unsqueeze(1)), B).unbind(1);
  statistics.lost_tokens_B = sum_Bn[0];
  statistics.gate_mass_B = sum_Bn[1];
  statistics.dropped_gate_mass_B = sum_Bn[2];
  statistics.entropy_B = sum_Bn[3];
  statistics.margin_B = sum_Bn[4];
  statistics.non_finite_B = sum_Bn[5];
  if (!statistics.group_visits_BG.defined()) statistics.group_visits_BG = sum_Bn[6].unsqueeze(1);
}

void add_loads(RoutingStatistics& statistics, const RoutingDecision& decision, const SumsShape& shape, const at::Tensor& mask_T,
               int64_t B) {
  const auto sum = [&](const at::Tensor& load_Tn, int64_t n) {
    return load_Tn.defined() ? rows_by_sequence(load_Tn * mask_T.unsqueeze(1), B) : at::zeros({B, n}, mask_T.options().dtype(at::kDouble));
  };
  statistics.load_BE = sum(decision.load_TE, shape.num_experts);
  statistics.group_load_BG = sum(decision.group_load_TG, shape.num_groups);
}

/// Domain d of n owns the experts d, d + n, d + 2 n, ...
at::Tensor domain_sums(const at::Tensor& probability_TE, int64_t num_domains, const TokenContext& context, const at::Tensor& mask_T,
                       int64_t B) {
  const int64_t T = probability_TE.size(0);
  const auto owner_E = at::arange(probability_TE.size(1), context.domain_B.options()).remainder(num_domains);
  const auto domain_T1 = context.domain_B.unsqueeze(1).expand({B, T / B}).reshape({T, 1}).remainder(num_domains);
  const auto owned_T = (probability_TE * owner_E.eq(domain_T1)).sum(1);
  constexpr double kLeast = 1e-30;  // a sparse gate may give them nothing
  return sum_by_sequence(-owned_T.clamp_min(kLeast).log() * mask_T, B);
}

/// Of the maps to experts and to groups, where there are any.
void add_logits(RoutingStatistics& statistics, TokenValues& values, const RouterLogits& logits, const at::Tensor& mask_T, int64_t B) {
  at::Tensor is_finite_T;
  for (const auto& map : {logits.expert_TE, logits.group_TG}) {
    if (!map.defined()) continue;
    const auto z_B = sum_by_sequence(map.logsumexp(1).square() * mask_T, B);
    statistics.z_B = statistics.z_B.defined() ? statistics.z_B + z_B : z_B;
    // The sum of finite numbers may overflow, that of zeros and NaN may not.
    const auto here_T = (map.detach() * 0.0).sum(1) == 0.0;
    is_finite_T = is_finite_T.defined() ? is_finite_T.logical_and(here_T) : here_T;
  }
  if (!statistics.z_B.defined()) statistics.z_B = at::zeros({B}, mask_T.options().dtype(at::kDouble));
  values.non_finite_T = is_finite_T.defined() ? is_finite_T.logical_not().to(mask_T.scalar_type()) : at::zeros_like(mask_T);
}

}  // namespace

at::Tensor count_keys(const at::Tensor& key_N, int64_t num_keys) {
  auto counts = at::zeros({num_keys + 1}, key_N.options().dtype(at::kDouble));
  // Not bincount, which waits for the device. Whole numbers: any order of adding gives the same bits.
  counts.scatter_add_(0, key_N, at::ones(key_N.sizes(), counts.options()));
  return counts.narrow(0, 0, num_keys);
}

RoutingStatistics collect_statistics(const RouterLogits& logits, const RoutingDecision& before, const Routing& after,
                                     const MoeConfig& config, const TokenContext& context) {
  const int64_t T = logits.num_tokens, B = context.global_sample_B.size(0);
  const SumsShape shape{.num_experts = config.num_experts, .num_groups = config.groups};
  const auto mask_T = context.mask_BS.defined() ? context.mask_BS.reshape({T}).to(logits.options.dtype()) : at::ones({T}, logits.options);
  RoutingStatistics statistics;
  statistics.tokens_B = sum_by_sequence(mask_T, B);
  add_counts(statistics, before.routing, after, shape, T, B);
  statistics.probability_BE = rows_by_sequence(before.probability_TE * mask_T.unsqueeze(1), B);
  add_loads(statistics, before, shape, mask_T, B);
  statistics.domain_B =
      config.domains > 0 ? domain_sums(before.probability_TE, config.domains, context, mask_T, B) : at::zeros_like(statistics.tokens_B);
  if (shape.num_groups > 1) statistics.group_visits_BG = group_visits(before.routing, shape, T, B);
  TokenValues values;
  add_gates(values, before.routing, after, T);
  add_probabilities(values, before.probability_TE);
  add_logits(statistics, values, logits, mask_T, B);
  add_sums(statistics, values, mask_T, B);
  statistics.nested_assigned_BM = statistics.nested_probability_BM = at::zeros({B, 0}, logits.options.dtype(at::kDouble));
  return statistics;
}

RoutingSums RoutingSums::by_sequence(const RoutingStatistics& s) {
  const auto scalars_B9 = at::stack(
      {s.tokens_B, s.z_B, s.domain_B, s.lost_tokens_B, s.gate_mass_B, s.dropped_gate_mass_B, s.entropy_B, s.margin_B, s.non_finite_B}, 1);
  return {at::cat({s.assigned_BE, s.dropped_BE, s.first_choice_BE, s.probability_BE, s.load_BE, s.group_visits_BG, s.group_load_BG,
                   s.nested_assigned_BM, s.nested_probability_BM, scalars_B9},
                  1),
          {s.assigned_BE.size(1), s.group_visits_BG.size(1), s.nested_assigned_BM.size(1)}};
}

RoutingSums::RoutingSums(const RoutingStatistics& statistics) : RoutingSums(by_sequence(statistics)) {
  packed_ = packed_.sum(0);
}

std::vector<RoutingSums> to_host(const std::vector<RoutingSums>& layers) {
  if (layers.empty() || layers.front().packed().is_cpu()) return layers;
  std::vector<at::Tensor> packed;
  std::vector<int64_t> sizes;
  for (const auto& layer : layers) {
    packed.push_back(layer.packed().detach());
    sizes.push_back(RoutingSums::size(layer.shape()));
  }
  const auto all = to_host(at::cat(packed)).split_with_sizes(sizes);
  std::vector<RoutingSums> on_host;
  for (size_t l = 0; l < layers.size(); ++l) on_host.emplace_back(all[l], layers[l].shape());
  return on_host;
}

}  // namespace switchyard
