// A routing rule turns router logits into assignments. One small file a rule, registered by name in one table; adding a rule = its
// function, a line in the table, a configuration, a test (CONTRIBUTING.md, "Add a router"). A program that links Switchyard adds its own
// (docs/library.md).
// T tokens here, E all experts, D model width, G groups of experts.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/model_config.h"
#include "core/routing/routing.h"

namespace switchyard {

/// Which linear maps of its input a rule wants from the router; each is a weight of the model.
struct RouterMaps {
  bool experts = true;  ///< [E, D]: a logit an expert
  bool noise = false;   ///< one more of each kind, for the scale of the noise
  bool groups = false;  ///< [G, D]: a logit a group of experts
};

/// What the router's maps say of T tokens, in max(fp32, run dtype). A map that the rule does not want is undefined.
struct RouterLogits {
  int64_t num_tokens = 0;
  at::TensorOptions options;        ///< of all floating-point tensors here, for rules without maps
  at::Tensor expert_TE = {};        ///< differentiable, as the next three
  at::Tensor expert_noise_TE = {};  ///< the noise's standard deviation is softplus of it
  at::Tensor group_TG = {};
  at::Tensor group_noise_TG = {};
  at::Tensor selection_bias_E = {};  ///< added to scores for the choice and not for the weight; undefined = zero
};

struct RoutingDecision {
  Routing routing;
  at::Tensor probability_TE;      ///< what the balancing terms call P, differentiable, max(fp32, run dtype)
  at::Tensor load_TE = {};        ///< smooth estimate of the assignments, differentiable; undefined where the rule has none
  at::Tensor group_load_TG = {};  ///< the same of whole groups
};

struct RoutingRule {
  /// Tokens are the rows of [B, S] in order. Masked tokens get expert = num_experts. Every layout must give a token the same experts:
  /// random numbers come from core/philox.h, and a token's choice follows from its own logits, or else `compares_tokens`. Not collective:
  /// ranks may call it with different numbers of tokens. Where recomputation and `routing.replay` are to work, choices go through
  /// traced_choices().
  std::function<RoutingDecision(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context)> decide;
  RouterMaps maps = {};
  /// What is wrong with a configuration for this rule, keys in full; empty = nothing ever is.
  std::function<std::vector<ConfigFault>(const MoeConfig& config)> check = {};
  /// Assignments that the rule lists for each token; empty = top_k.
  std::function<int64_t(const MoeConfig& config)> num_choices = {};
  bool has_load = false;         ///< it gives load_TE, so that load_loss_coeff has a meaning
  bool fills_capacity = false;   ///< experts take what they hold: nothing is dropped afterwards
  bool compares_tokens = false;  ///< the tokens of a capacity group compete, whether or not there is a capacity
  bool looks_ahead = false;      ///< a token's experts depend on later tokens, so that it cannot generate
  bool uses_places = false;      ///< they depend on the token's place in the pass, so that generation has to start over for every token
};

/// All rules by their name in the configuration (`model.moe.router`).
const std::map<std::string, RoutingRule>& routing_rules();

/// Adds a rule of the caller's own, whose name `model.moe.router` then takes; on every rank, before any configuration that names it is read
/// and before there are other threads. Errors: c10::Error when the name is taken, or the rule has no `decide`.
void register_routing_rule(const std::string& name, RoutingRule rule);

/// Assignments that the configured rule lists for each token.
int64_t num_choices(const MoeConfig& config);

}  // namespace switchyard
