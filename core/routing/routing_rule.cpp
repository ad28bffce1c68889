#include "core/routing/routing_rule.h"

#include "core/routing/rules.h"

namespace switchyard {
namespace {

std::map<std::string, RoutingRule>& table() {
  static std::map<std::string, RoutingRule> rules = {
      {"dense", dense_rule()},
      {"expert_choice", expert_choice_rule()},
      {"forced_random", forced_random_rule()},
      {"forced_uniform", forced_uniform_rule()},
      {"forced_zipf", forced_zipf_rule()},
      {"gshard_top_2", gshard_top_2_rule()},
      {"hash", hash_rule()},
      {"hierarchical", hierarchical_rule()},
      {"noisy_top_k", noisy_top_k_rule()},
      {"sinkhorn", sinkhorn_rule()},
      {"top_k", top_k_rule()},
  };
  return rules;
}

}  // namespace

const std::map<std::string, RoutingRule>& routing_rules() {
  return table();
}

void register_routing_rule(const std::string& name, RoutingRule rule) {
  TORCH_CHECK(rule.decide, "register_routing_rule: ", name, " has no function that decides");
  TORCH_CHECK(table().emplace(name, std::move(rule)).second, "register_routing_rule: there is a routing rule called ", name,
              " already; choose another name");
}

int64_t num_choices(const MoeConfig& config) {
  const auto& rule = routing_rules().at(config.router);
  return rule.num_choices ? rule.num_choices(config) : config.top_k;
}

}  // namespace switchyard
