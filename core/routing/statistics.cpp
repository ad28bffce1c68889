#include "core/routing/statistics.h"

#include "core/host_copy.h"

namespace switchyard {
namespace {

/// Sum over a sequence's tokens of a value per token, in float64.
at::Tensor sum_by_sequence(const at::Tensor& value_T, int64_t num_sequences) {
  return value_T.view({num_sequences, -1}).to(at::kDouble).sum(1);
}

/// How many assignments of each sequence name each expert; "nowhere" is counted in a column of its own and left out.
at::Tensor count_by_sequence(const Routing& routing, int64_t num_sequences, int64_t sequence_length) {
  const int64_t E = routing.num_experts;
  const auto key_N = routing.token_N.div(sequence_length, /*rounding_mode=*/"floor") * (E + 1) + routing.expert_N;
  auto counts = at::zeros({num_sequences * (E + 1)}, key_N.options().dtype(at::kDouble));
  // Not bincount, which waits for the device. Whole numbers: any order of adding gives the same bits.
  counts.scatter_add_(0, key_N, at::ones(key_N.sizes(), counts.options()));
  return counts.view({num_sequences, E + 1}).narrow(1, 0, E);
}

at::Tensor sum_by_token(const at::Tensor& value_N, const Routing& routing, int64_t num_tokens) {
  return at::zeros({num_tokens, routing.num_choices}, value_N.options())
      .view({-1})
      .index_copy_(0, routing.token_N * routing.num_choices + routing.choice_N, value_N)
      .view({num_tokens, routing.num_choices})
      .sum(1);
}

void add_gate_accounting(RoutingStatistics& statistics, const Routing& before, const Routing& after, int64_t num_tokens, int64_t B) {
  const auto wanted_N = before.expert_N < before.num_experts, kept_N = after.expert_N < after.num_experts;
  const auto weight_N = before.weight_N.detach();
  const auto mass_T = sum_by_token(weight_N * wanted_N, before, num_tokens);
  const auto dropped_T = sum_by_token(weight_N * wanted_N.logical_xor(kept_N), before, num_tokens);
  const auto wanted_T = sum_by_token(wanted_N.to(weight_N.scalar_type()), before, num_tokens);
  const auto kept_T = sum_by_token(kept_N.to(weight_N.scalar_type()), before, num_tokens);
  statistics.gate_mass_B = sum_by_sequence(mass_T, B);
  statistics.dropped_gate_mass_B = sum_by_sequence(dropped_T, B);
  statistics.lost_tokens_B = sum_by_sequence((wanted_T > 0).logical_and(kept_T == 0), B);
}

void add_probability_sums(RoutingStatistics& statistics, const at::Tensor& probability_TE, const at::Tensor& mask_T, int64_t B) {
  const int64_t E = probability_TE.size(1);
  statistics.probability_BE = (probability_TE * mask_T.unsqueeze(1)).view({B, -1, E}).to(at::kDouble).sum(1);
  const auto p_TE = probability_TE.detach();
  const auto entropy_T = -(p_TE * p_TE.clamp_min(1e-30).log()).sum(1);
  statistics.entropy_B = sum_by_sequence(entropy_T * mask_T, B);
  if (E > 1) {
    const auto best_T2 = std::get<0>(p_TE.topk(2, 1));
    statistics.margin_B = sum_by_sequence((best_T2.select(1, 0) - best_T2.select(1, 1)) * mask_T, B);
  } else {
    statistics.margin_B = at::zeros_like(statistics.entropy_B);
  }
}

}  // namespace

RoutingStatistics collect_statistics(const at::Tensor& logits_TE, const RoutingDecision& before, const Routing& after,
                                     const TokenContext& context, int64_t num_sequences) {
  const int64_t T = logits_TE.size(0), B = num_sequences, S = T / B;
  const auto mask_T =
      context.mask_BS.defined() ? context.mask_BS.reshape({T}).to(logits_TE.scalar_type()) : at::ones({T}, logits_TE.options());
  RoutingStatistics statistics;
  statistics.assigned_BE = count_by_sequence(before.routing, B, S);
  statistics.dropped_BE = statistics.assigned_BE - count_by_sequence(after, B, S);
  statistics.tokens_B = sum_by_sequence(mask_T, B);
  statistics.z_B = sum_by_sequence(logits_TE.logsumexp(1).square() * mask_T, B);
  statistics.non_finite_B = sum_by_sequence(logits_TE.detach().isfinite().all(1).logical_not() * mask_T, B);
  add_probability_sums(statistics, before.probability_TE, mask_T, B);
  add_gate_accounting(statistics, before.routing, after, T, B);
  return statistics;
}

RoutingSums RoutingSums::by_sequence(const RoutingStatistics& s) {
  const auto scalars_B8 =
      at::stack({s.tokens_B, s.z_B, s.lost_tokens_B, s.gate_mass_B, s.dropped_gate_mass_B, s.entropy_B, s.margin_B, s.non_finite_B}, 1);
  return {at::cat({s.assigned_BE, s.dropped_BE, s.probability_BE, scalars_B8}, 1), s.assigned_BE.size(1)};
}

RoutingSums::RoutingSums(const RoutingStatistics& statistics)
    : RoutingSums(by_sequence(statistics).packed().sum(0), statistics.assigned_BE.size(1)) {}

std::vector<RoutingSums> to_host(const std::vector<RoutingSums>& layers) {
  if (layers.empty() || layers.front().packed().is_cpu()) return layers;
  std::vector<at::Tensor> packed;
  for (const auto& layer : layers) packed.push_back(layer.packed().detach());
  const auto all = to_host(at::stack(packed));
  std::vector<RoutingSums> on_host;
  for (size_t l = 0; l < layers.size(); ++l) on_host.emplace_back(all[static_cast<int64_t>(l)], layers[l].num_experts());
  return on_host;
}

}  // namespace switchyard
