// The MoE part of a drawn model: router, balancing, capacity.
#include "core/routing/routing_rule.h"
#include "tests/fuzz/draw_case.h"

namespace switchyard {
namespace {

void draw_groups(Draws& draws, MoeConfig& moe, int64_t least) {
  std::vector<int64_t> counts;
  for (int64_t count = least; count <= moe.num_experts; ++count) {
    if (moe.num_experts % count == 0) counts.push_back(count);
  }
  moe.groups = draws.one_of(counts);
  moe.group_top_k = draws.between(1, moe.groups);
}

void draw_top_k(Draws& draws, MoeConfig& moe) {
  moe.top_k = std::min(moe.num_experts, draws.one_of<int64_t>({1, 1, 2, 2, 2, 3, 4}));
  moe.renormalize = moe.top_k > 1 && draws.percent(60);
  if (draws.percent(35)) moe.score = ScoreFunction::kSigmoid;
  if (moe.score == ScoreFunction::kSigmoid && draws.percent(50)) moe.bias_update = draws.one_of({0.001, 0.03});
  if (draws.percent(20)) moe.scale = 2.5;
  if (draws.percent(30)) draw_groups(draws, moe, 1);
  moe.top_k = std::min(moe.top_k, moe.group_top_k * (moe.num_experts / moe.groups));
  moe.renormalize = moe.renormalize && moe.top_k > 1;
  if (moe.num_experts >= 2 * moe.groups && draws.percent(50)) moe.group_score = GroupScore::kBestTwo;
}

void draw_hierarchical(Draws& draws, MoeConfig& moe) {
  draw_groups(draws, moe, 2);
  const int64_t each = draws.between(1, moe.num_experts / moe.groups);
  moe.top_k = moe.group_top_k * each;
  if (moe.top_k > 1) return;
  moe.group_top_k = 2;
  moe.top_k = 2;
}

/// Half of the rules drawn are top_k, which most systems are.
void draw_router(Draws& draws, MoeConfig& moe) {
  std::vector<std::string> rules;
  for (const auto& [name, rule] : routing_rules()) rules.push_back(name);
  moe.router = draws.percent(50) ? "top_k" : draws.one_of(rules);
  moe.num_experts = draws.one_of<int64_t>({1, 2, 3, 4, 4, 5, 6, 8, 8, 12});
  moe.renormalize = false;
  const auto& router = moe.router;
  if (router == "noisy_top_k" || router == "hierarchical" || router == "gshard_top_2")
    moe.num_experts = std::max<int64_t>(2, moe.num_experts);
  if (router == "top_k") {
    draw_top_k(draws, moe);
  } else if (router == "hierarchical") {
    draw_hierarchical(draws, moe);
  } else {
    moe.top_k = router == "dense"          ? moe.num_experts
                : router == "gshard_top_2" ? 2
                : router == "noisy_top_k"  ? draws.between(2, std::min<int64_t>(4, moe.num_experts))
                                           : draws.between(1, std::min<int64_t>(3, moe.num_experts));
    if (draws.percent(30)) draw_groups(draws, moe, 1);
  }
  if (draws.percent(20)) moe.apply = ApplyWeight::kInput;
  if (!routing_rules().at(router).maps.experts) return;
  moe.router_bias = draws.percent(25);
  moe.input_jitter = draws.percent(30) ? draws.one_of({0.01, 0.1, 0.5}) : 0.0;
}

/// Of the scopes that belong to micro-batches at most one, and none beside a capacity group that does: together they have no reference on
/// one rank.
void draw_terms(Draws& draws, MoeConfig& moe, bool groups_by_micro_batch) {
  using enum AuxLossScope;
  std::vector<AuxLossScope> scopes = {kGlobalBatch, kGlobalBatch, kSequence, kLagged};
  const auto bound = draws.one_of({kGlobalBatch, kMicroBatch, kRunning});
  if (bound != kRunning || !groups_by_micro_batch) scopes.push_back(bound);
  moe.aux_loss_scope = draws.one_of(scopes);
  moe.importance_loss_scope = draws.one_of(scopes);
  moe.aux_loss_coeff = draws.one_of({0.0, 0.01, 0.1, 0.5});
  moe.z_loss_coeff = draws.one_of({0.0, 0.001, 0.1});
  moe.importance_loss_coeff = draws.one_of({0.0, 0.0, 0.05, 0.5});
  if (draws.percent(20)) moe.sequence_loss_coeff = 0.05;
  if (draws.percent(20)) moe.aux_loss_coeff = Coefficient({{1, 0.0}, {3, 0.2}, {4, 0.1}});
  if (moe.aux_loss_scope != kSequence && draws.percent(25))
    moe.aux_loss_form = AuxLossForm::kHuggingFace;
  else if (draws.percent(25))
    moe.aux_loss_counts = AuxLossCounts::kFirstChoice;
  if (routing_rules().at(moe.router).has_load) {
    moe.load_loss_coeff = draws.one_of({0.0, 0.05, 0.5});
    moe.load_loss_scope = draws.one_of(scopes);
  }
  if (draws.percent(15) && routing_rules().at(moe.router).maps.experts) {
    moe.domains = draws.between(1, std::min<int64_t>(3, moe.num_experts));
    moe.domain_loss_coeff = 0.1;
  }
  if (moe.groups > 1) {
    moe.group_loss_coeff = draws.one_of({0.0, 0.05});
    moe.group_loss_scope = draws.one_of(scopes);
    moe.communication_loss_coeff = draws.one_of({0.0, 0.05});
    moe.communication_loss_scope = draws.one_of(scopes);
  }
}

void draw_capacity(Draws& draws, MoeConfig& moe) {
  const auto& rule = routing_rules().at(moe.router);
  if (moe.router != "dense" && draws.percent(60)) moe.capacity_factor = draws.one_of({0.3, 0.5, 0.75, 1.0, 1.0, 1.25, 2.0});
  if (moe.capacity_factor || rule.compares_tokens) moe.capacity_group.sequences = draws.one_of<int64_t>({1, 1, 2, 3, 0});
  if (!moe.capacity_factor || rule.fills_capacity) return;
  moe.min_capacity = draws.one_of<int64_t>({0, 0, 0, 1, 2});
  using enum DropOrder;
  moe.drop_order = draws.one_of({kChoicePosition, kChoiceScorePosition, kScorePosition, kRandom});
}

}  // namespace

MoeConfig draw_moe(Draws& draws) {
  MoeConfig moe;
  draw_router(draws, moe);
  moe.ffn_hidden_size = draws.between(3, 14);
  using enum Activation;
  moe.activation = draws.one_of({kSwiglu, kSwiglu, kGeglu, kClampedSwiglu, kGelu, kRelu});
  moe.expert_bias = draws.percent(20);
  moe.expert_dropout = draws.percent(20) ? 0.3 : 0.0;
  if (draws.percent(35)) {
    moe.shared_expert_ffn_hidden_size = draws.between(3, 11);
    moe.shared_expert_gate = draws.percent(40);
    moe.residual = !moe.shared_expert_gate && draws.percent(40);
  }
  if (draws.percent(15)) {
    moe.nested_experts = draws.between(2, 4);
    moe.nested_top_k = draws.between(1, 2);
    moe.nested_loss_coeff = draws.one_of({0.0, 0.05});
  }
  draw_capacity(draws, moe);
  draw_terms(draws, moe, moe.capacity_group.sequences == 0);
  return moe;
}

int64_t group_sequences(const ModelConfig& model) {
  if (!model.moe) return 1;
  const bool competes = model.moe->capacity_factor || routing_rules().at(model.moe->router).compares_tokens;
  return competes ? model.moe->capacity_group.sequences : 1;
}

}  // namespace switchyard
