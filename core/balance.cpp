#include "core/balance.h"

namespace switchyard {
namespace {

at::Tensor tokens_at_least_one(const RoutingSums& sums) {
  return sums.tokens().clamp_min(1.0);
}

/// sum_i c_i P_i / tokens^2, what both forms of the balance loss share.
at::Tensor load_times_probability(const RoutingSums& sums) {
  return (sums.assigned_E() * sums.probability_E()).sum(-1) / tokens_at_least_one(sums).square();
}

/// transformers' form: all layers as if they were one with more tokens, f counted over all k choices.
at::Tensor pooled_balance_loss(const std::vector<RoutingSums>& layers) {
  auto pooled = layers.front().packed();
  for (size_t l = 1; l < layers.size(); ++l) pooled = pooled + layers[l].packed();
  const int64_t E = layers.front().num_experts();
  return static_cast<double>(E) * load_times_probability(RoutingSums(pooled, E));
}

template <class Value>
std::function<at::Tensor(const std::vector<RoutingSums>&)> sum_over_layers(Value value) {
  return [value](const std::vector<RoutingSums>& layers) {
    auto sum = value(layers.front());
    for (size_t l = 1; l < layers.size(); ++l) sum = sum + value(layers[l]);
    return sum;
  };
}

}  // namespace

at::Tensor switch_balance_loss(const RoutingSums& sums, int64_t top_k) {
  return static_cast<double>(sums.num_experts()) / static_cast<double>(top_k) * load_times_probability(sums);
}

at::Tensor router_z_loss(const RoutingSums& sums) {
  return sums.z() / tokens_at_least_one(sums);
}

at::Tensor importance_loss(const RoutingSums& sums) {
  const auto importance_E = sums.probability_E();
  const auto mean = importance_E.mean(-1, /*keepdim=*/true);
  return ((importance_E - mean) / mean.clamp_min(1e-30)).square().mean(-1);
}

std::vector<BalanceTerm> balance_terms(const ModelConfig& config) {
  if (!config.moe) return {};
  const auto& moe = *config.moe;
  const auto num_layers = static_cast<double>(config.num_moe_layers());
  BalanceTerm aux{.name = "aux_loss", .coefficient = moe.aux_loss_coeff, .scope = moe.aux_loss_scope};
  if (moe.aux_loss_form == AuxLossForm::kHuggingFace) {
    aux.value = pooled_balance_loss;
  } else {
    aux.mean_divisor = num_layers;
    aux.value = sum_over_layers([top_k = moe.top_k](const RoutingSums& sums) { return switch_balance_loss(sums, top_k); });
  }
  BalanceTerm z{.name = "z_loss", .coefficient = moe.z_loss_coeff, .linear = true, .mean_divisor = num_layers};
  z.value = sum_over_layers(router_z_loss);
  BalanceTerm importance{.name = "importance_loss",
                         .coefficient = moe.importance_loss_coeff,
                         .scope = moe.aux_loss_scope,
                         .mean_divisor = num_layers,
                         .value = sum_over_layers(importance_loss)};
  return {aux, z, importance};
}

at::Tensor surrogate(const BalanceTerm& term, const std::vector<RoutingSums>& local, const std::vector<RoutingSums>& total) {
  std::vector<at::Tensor> leaves;
  std::vector<RoutingSums> at_total;
  for (const auto& sums : total) {
    leaves.push_back(sums.packed().detach().clone().requires_grad_());
    at_total.emplace_back(leaves.back(), sums.num_experts());
  }
  at::AutoGradMode with_grad(true);
  const auto slopes = torch::autograd::grad({term.value(at_total)}, leaves);
  auto sum = (slopes[0] * local[0].packed()).sum();
  for (size_t l = 1; l < local.size(); ++l) sum = sum + (slopes[l] * local[l].packed()).sum();
  return sum;
}

at::Tensor sum_over_sequences(const BalanceTerm& term, const std::vector<RoutingStatistics>& layers) {
  std::vector<RoutingSums> sums;
  for (const auto& statistics : layers) sums.push_back(RoutingSums::by_sequence(statistics));
  return term.value(sums).sum();
}

}  // namespace switchyard
