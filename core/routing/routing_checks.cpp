#include "core/routing/routing_checks.h"

#include <algorithm>

#include "core/routing/routing_rule.h"

namespace switchyard {
namespace {

std::string known_rules() {
  std::string names;
  for (const auto& [name, rule] : routing_rules()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

class RoutingChecks {
 public:
  explicit RoutingChecks(const MoeConfig& config) : config_(config) {}

  std::vector<ConfigFault> run() {
    const auto rule = routing_rules().find(config_.router);
    if (rule == routing_rules().end()) {
      add("router", "is not a known routing rule; use " + known_rules());
      return std::move(faults_);
    }
    check_groups(rule->second);
    check_keys_of_top_k();
    check_maps(rule->second);
    check_terms(rule->second);
    check_capacity(rule->second);
    if (rule->second.check) std::ranges::move(rule->second.check(config_), std::back_inserter(faults_));
    return std::move(faults_);
  }

 private:
  static std::string full(const std::string& key) { return "model.moe." + key; }

  void add(const std::string& key, std::string problem, const std::vector<std::string>& other_keys = {}) {
    ConfigFault fault{full(key), std::move(problem)};
    for (const auto& other : other_keys) fault.other_keys.push_back(full(other));
    faults_.push_back(std::move(fault));
  }

  void check_groups(const RoutingRule& rule) {
    const auto text = [](int64_t value) { return std::to_string(value); };
    if (config_.groups < 1) return add("groups", "is not positive; use 1 or more");
    if (config_.num_experts % config_.groups != 0) {
      add("groups", "does not divide model.moe.num_experts = " + text(config_.num_experts) + "; let every group hold equally many experts",
          {"num_experts"});
      return;
    }
    if (config_.group_top_k < 1 || config_.group_top_k > config_.groups) {
      add("group_top_k", "is out of range; use 1 to model.moe.groups = " + text(config_.groups), {"groups"});
      return;
    }
    const int64_t reachable = config_.group_top_k * (config_.num_experts / config_.groups);
    const bool limits = config_.groups > 1 && (config_.router == "top_k" || rule.maps.groups);
    if (limits && config_.top_k > reachable) {
      add("top_k",
          "is more than the " + text(reachable) +
              " experts of the groups that a token may visit; use less, or a larger "
              "model.moe.group_top_k",
          {"groups", "group_top_k", "num_experts"});
    }
  }

  /// Keys that only the rule top_k reads.
  void check_keys_of_top_k() {
    if (config_.top_k == 1 && config_.renormalize) {
      add("renormalize", "makes the only weight of model.moe.top_k = 1 always 1, so that the router learns nothing; use false", {"top_k"});
    }
    if (config_.router == "top_k") return;
    const std::string only = "is a key of model.moe.router: top_k; leave it out with " + config_.router;
    if (config_.score != ScoreFunction::kSoftmax) add("score", only, {"router"});
    if (config_.scale != 1.0) add("scale", only, {"router"});
    if (config_.bias_update > 0.0) add("bias_update", only, {"router"});
    if (config_.group_score != GroupScore::kBest) add("group_score", only, {"router"});
  }

  void check_maps(const RoutingRule& rule) {
    const std::string no_weights = "has no weights to work on with model.moe.router: " + config_.router;
    if (!rule.maps.experts && config_.router_bias) add("router_bias", no_weights + "; use false", {"router"});
    if (!rule.maps.experts && config_.input_jitter > 0.0) add("input_jitter", no_weights + "; use 0", {"router"});
    if (!(config_.input_jitter >= 0 && config_.input_jitter < 1)) add("input_jitter", "is out of range; use 0 or more, less than 1");
  }

  void check_terms(const RoutingRule& rule) {
    if (!rule.has_load && !config_.load_loss_coeff.is_zero()) {
      add("load_loss_coeff",
          "needs a smooth estimate of loads, which model.moe.router: " + config_.router +
              " does not give; use 0, noisy_top_k or hierarchical",
          {"router"});
    }
    if (config_.groups == 1 && !config_.group_loss_coeff.is_zero())
      add("group_loss_coeff", "has no groups to balance; set model.moe.groups", {"groups"});
    if (config_.groups == 1 && !config_.communication_loss_coeff.is_zero()) {
      add("communication_loss_coeff", "has no groups to balance; set model.moe.groups", {"groups"});
    }
    if (config_.domains < 0 || config_.domains > config_.num_experts) {
      add("domains", "is out of range; use 0 (none) to model.moe.num_experts = " + std::to_string(config_.num_experts), {"num_experts"});
    }
    if (config_.domains > 0 && !rule.maps.experts)
      add("domains", "has no router to teach with model.moe.router: " + config_.router + "; use 0", {"router"});
    if (config_.aux_loss_form != AuxLossForm::kHuggingFace) return;
    if (config_.aux_loss_scope == AuxLossScope::kSequence) {
      add("aux_loss_form",
          "pools all tokens and does not go with model.moe.aux_loss_scope = sequence; use the scope global_batch or the form megatron",
          {"aux_loss_scope"});
    }
    if (config_.aux_loss_counts == AuxLossCounts::kFirstChoice) {
      add("aux_loss_form", "counts all choices; use the form megatron, or model.moe.aux_loss_counts: all", {"aux_loss_counts"});
    }
  }

  void check_capacity(const RoutingRule& rule) {
    for (const auto& [key, factor] :
         {std::pair{"capacity_factor", config_.capacity_factor}, {"eval_capacity_factor", config_.eval_capacity_factor}}) {
      if (factor && !(*factor > 0)) add(key, "is not positive; use a factor above 0, or null to drop nothing");
    }
    if (config_.capacity_group.sequences < 0) add("capacity_group", "is negative; use {sequences: n} with n of 1 or more, or micro_batch");
    if (!rule.fills_capacity) return;
    const std::string nothing =
        "drops nothing with model.moe.router: " + config_.router + ", whose experts take what they hold; leave it out";
    if (config_.drop_order != DropOrder::kChoicePosition) add("drop_order", nothing, {"router"});
    if (config_.eval_capacity_factor) add("eval_capacity_factor", nothing, {"router"});
    if (config_.min_capacity > 0) add("min_capacity", nothing, {"router"});
  }

  const MoeConfig& config_;
  std::vector<ConfigFault> faults_;
};

}  // namespace

std::vector<ConfigFault> find_routing_faults(const MoeConfig& config) {
  return RoutingChecks(config).run();
}

}  // namespace switchyard
