#include "core/balance.h"

namespace switchyard {
namespace {

using LayersValue = std::function<at::Tensor(const std::vector<RoutingSums>& layers)>;

at::Tensor tokens_at_least_one(const RoutingSums& sums) {
  return sums.tokens().clamp_min(1.0);
}

/// n sum_i (count_i / (per_token x tokens)) (probability_i / tokens) over n experts or groups.
at::Tensor count_times_probability(const at::Tensor& count_n, const at::Tensor& probability_n, const RoutingSums& sums, double per_token) {
  const double factor = static_cast<double>(count_n.size(-1)) / per_token;
  return factor * ((count_n * probability_n).sum(-1) / tokens_at_least_one(sums).square());
}

/// variance / mean^2; 0 where all are 0.
at::Tensor squared_variation(const at::Tensor& value_E) {
  const auto mean = value_E.mean(-1, /*keepdim=*/true);
  return ((value_E - mean) / mean.clamp_min(1e-30)).square().mean(-1);
}

/// Sums over the experts of each group.
at::Tensor by_group(const at::Tensor& value_E, int64_t num_groups) {
  return value_E.unflatten(-1, {num_groups, -1}).sum(-1);
}

/// transformers' form: all layers as if they were one with more tokens, f counted over all k choices.
at::Tensor pooled_balance_loss(const std::vector<RoutingSums>& layers) {
  auto pooled = layers.front().packed();
  for (size_t l = 1; l < layers.size(); ++l) pooled = pooled + layers[l].packed();
  return switch_balance_loss(RoutingSums(pooled, layers.front().shape()), /*top_k=*/1);
}

LayersValue sum_over_layers(std::function<at::Tensor(const RoutingSums&)> value) {
  return [value = std::move(value)](const std::vector<RoutingSums>& layers) {
    auto sum = value(layers.front());
    for (size_t l = 1; l < layers.size(); ++l) sum = sum + value(layers[l]);
    return sum;
  };
}

}  // namespace

at::Tensor switch_balance_loss(const RoutingSums& sums, int64_t top_k, AuxLossCounts counts) {
  const bool all = counts == AuxLossCounts::kAll;
  return count_times_probability(all ? sums.assigned_E() : sums.first_choice_E(), sums.probability_E(), sums,
                                 all ? static_cast<double>(top_k) : 1.0);
}

at::Tensor router_z_loss(const RoutingSums& sums) {
  return sums.z() / tokens_at_least_one(sums);
}

at::Tensor importance_loss(const RoutingSums& sums) {
  return squared_variation(sums.probability_E());
}

at::Tensor load_loss(const RoutingSums& sums, bool two_levels) {
  if (!two_levels) return squared_variation(sums.load_E());
  const auto share_G = sums.group_load_G() / sums.group_visits_G().clamp_min(1.0);
  return squared_variation((sums.load_E().unflatten(-1, {sums.num_groups(), -1}) * share_G.unsqueeze(-1)).flatten(-2));
}

at::Tensor group_balance_loss(const RoutingSums& sums, int64_t top_k) {
  const int64_t G = sums.num_groups();
  return count_times_probability(by_group(sums.assigned_E(), G), by_group(sums.probability_E(), G), sums, static_cast<double>(top_k));
}

at::Tensor communication_loss(const RoutingSums& sums, int64_t group_top_k) {
  return count_times_probability(sums.group_visits_G(), by_group(sums.probability_E(), sums.num_groups()), sums,
                                 static_cast<double>(group_top_k));
}

at::Tensor nested_balance_loss(const RoutingSums& sums, int64_t nested_experts, int64_t nested_top_k) {
  const auto assigned_En = sums.nested_assigned_M().unflatten(-1, {-1, nested_experts});
  const auto probability_En = sums.nested_probability_M().unflatten(-1, {-1, nested_experts});
  const auto k = static_cast<double>(nested_top_k);
  const auto rows_E = assigned_En.sum(-1) / k;
  const auto value_E = (assigned_En * probability_En).sum(-1) * (static_cast<double>(nested_experts) / k) / rows_E.clamp_min(1.0).square();
  return (value_E * rows_E).sum(-1) / rows_E.sum(-1).clamp_min(1.0);
}

at::Tensor domain_loss(const RoutingSums& sums) {
  return sums.domain() / tokens_at_least_one(sums);
}

std::vector<BalanceTerm> balance_terms(const ModelConfig& config) {
  if (!config.moe) return {};
  const auto& moe = *config.moe;
  const auto& rule = routing_rules().at(moe.router);
  const auto num_layers = static_cast<double>(config.num_moe_layers());
  std::vector<BalanceTerm> terms;
  const auto add = [&](const char* name, const Coefficient& coefficient, AuxLossScope scope, LayersValue value) {
    terms.push_back({.name = name, .coefficient = coefficient, .scope = scope, .mean_divisor = num_layers, .value = std::move(value)});
  };
  const auto balance = sum_over_layers(
      [k = moe.top_k, counts = moe.aux_loss_counts](const RoutingSums& sums) { return switch_balance_loss(sums, k, counts); });
  add("aux_loss", moe.aux_loss_coeff, moe.aux_loss_scope, balance);
  if (moe.aux_loss_form == AuxLossForm::kHuggingFace) {
    terms.back().value = pooled_balance_loss;
    terms.back().mean_divisor = 1.0;
  }
  add("z_loss", moe.z_loss_coeff, AuxLossScope::kGlobalBatch, sum_over_layers(router_z_loss));
  terms.back().linear = true;
  add("importance_loss", moe.importance_loss_coeff, moe.importance_loss_scope, sum_over_layers(importance_loss));
  if (!moe.sequence_loss_coeff.is_zero()) add("sequence_loss", moe.sequence_loss_coeff, AuxLossScope::kSequence, balance);
  if (rule.has_load) {
    add("load_loss", moe.load_loss_coeff, moe.load_loss_scope,
        sum_over_layers([two_levels = rule.maps.groups](const RoutingSums& sums) { return load_loss(sums, two_levels); }));
  }
  if (moe.groups > 1) {
    add("group_loss", moe.group_loss_coeff, moe.group_loss_scope,
        sum_over_layers([k = moe.top_k](const RoutingSums& sums) { return group_balance_loss(sums, k); }));
    add("communication_loss", moe.communication_loss_coeff, moe.communication_loss_scope,
        sum_over_layers([g = moe.group_top_k](const RoutingSums& sums) { return communication_loss(sums, g); }));
  }
  if (moe.domains > 0) {
    add("domain_loss", moe.domain_loss_coeff, AuxLossScope::kGlobalBatch, sum_over_layers(domain_loss));
    terms.back().linear = true;
  }
  if (moe.nested_experts > 0) {
    add("nested_loss", moe.nested_loss_coeff, AuxLossScope::kGlobalBatch,
        sum_over_layers(
            [n = moe.nested_experts, k = moe.nested_top_k](const RoutingSums& sums) { return nested_balance_loss(sums, n, k); }));
  }
  return terms;
}

std::vector<SumsShape> sums_shapes(const ModelConfig& config) {
  std::vector<SumsShape> shapes;
  for (const int64_t layer : config.moe_layers()) {
    const int64_t num_experts = config.num_experts_at(layer);
    shapes.push_back({num_experts, config.moe->groups, num_experts * config.moe->nested_experts});
  }
  return shapes;
}

at::Tensor surrogate(const BalanceTerm& term, const std::vector<RoutingSums>& local, const std::vector<RoutingSums>& total) {
  std::vector<at::Tensor> leaves;
  std::vector<RoutingSums> at_total;
  for (const auto& sums : total) {
    leaves.push_back(sums.packed().detach().clone().requires_grad_());
    at_total.emplace_back(leaves.back(), sums.shape());
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
