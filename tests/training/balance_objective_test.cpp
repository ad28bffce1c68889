// Every scope of the balancing terms by hand, and their gradients against differences.
#include "training/balance_objective.h"

#include "tests/finite_differences.h"
#include "tests/routing_tools.h"

namespace switchyard {
namespace {

/// One MoE layer with two experts, top-1.
ModelConfig two_experts(AuxLossScope scope, double aux, double importance) {
  auto config = tiny_config();
  config.num_layers = 1;
  config.moe->num_experts = 2;
  config.moe->top_k = 1;
  config.moe->renormalize = false;
  config.moe->aux_loss_scope = config.moe->importance_loss_scope = scope;
  config.moe->aux_loss_coeff = aux;
  config.moe->importance_loss_coeff = importance;
  config.moe->z_loss_coeff = 0.0;
  return config;
}

/// Sequences of one token each; the probabilities are a leaf.
RoutingStatistics statistics(const at::Tensor& assigned_BE, const at::Tensor& probability_BE) {
  const auto zero_B = at::zeros({assigned_BE.size(0)}, at::kDouble), zero_B1 = zero_B.unsqueeze(1);
  return {.assigned_BE = assigned_BE,
          .dropped_BE = at::zeros_like(assigned_BE),
          .first_choice_BE = assigned_BE,
          .group_visits_BG = zero_B1,
          .tokens_B = assigned_BE.sum(1),
          .probability_BE = probability_BE.requires_grad_(),
          .load_BE = at::zeros_like(assigned_BE),
          .group_load_BG = zero_B1,
          .nested_assigned_BM = zero_B1.narrow(1, 0, 0),
          .nested_probability_BM = zero_B1.narrow(1, 0, 0),
          .z_B = zero_B,
          .domain_B = zero_B,
          .lost_tokens_B = zero_B,
          .gate_mass_B = zero_B,
          .dropped_gate_mass_B = zero_B,
          .entropy_B = zero_B,
          .margin_B = zero_B,
          .non_finite_B = zero_B};
}

/// Sums: first micro-batch assigned {2, 0}, probability {1.5, 0.5}; second {1, 1}, {1, 1}. Together {3, 1}, {2.5, 1.5}, 4 tokens.
std::vector<RoutingStatistics> two_micro_batches() {
  return {statistics(matrix({{1, 0}, {1, 0}}), matrix({{.75, .25}, {.75, .25}})),
          statistics(matrix({{1, 0}, {0, 1}}), matrix({{.5, .5}, {.5, .5}}))};
}

struct Step {
  std::vector<TermValue> terms;
  std::vector<std::vector<double>> gradients;  ///< of each micro-batch with respect to the probabilities of its first sequence
  bool counted = false;
};

Step run_step(BalanceObjective& objective, const std::vector<RoutingStatistics>& micro_batches) {
  double num_sequences = 0.0;
  for (const auto& one : micro_batches) num_sequences += static_cast<double>(one.tokens_B.size(0));
  objective.start_step({1, num_sequences, num_sequences, static_cast<int64_t>(micro_batches.size())});
  Step step{.terms = {}, .gradients = {}, .counted = objective.needs_counting()};
  if (step.counted) {
    for (const auto& one : micro_batches) objective.count({one});
    objective.end_counting();
  }
  for (const auto& one : micro_batches) {
    objective.add_micro_batch({one}).backward();
    const auto grad_E = one.probability_BE.grad()[0].contiguous();
    step.gradients.emplace_back(grad_E.const_data_ptr<double>(), grad_E.const_data_ptr<double>() + 2);
  }
  step.terms = objective.finish(objective.local_parts()).terms;
  return step;
}

BalanceObjective objective_of(const ModelConfig& config) {
  return {config, make_single_communicator(), at::kDouble};
}

struct Expected {
  const char* name;
  AuxLossScope scope;
  double aux, importance;  ///< coefficients
  double value;            ///< of the one with a coefficient
  std::vector<double> first_gradient, second_gradient;
  bool counted;
};

// aux_loss = 2 sum c P / tokens^2, its slope 2 c / tokens^2. importance_loss = 2 sum P^2 / T^2 - 1 with T = sum P, its slope
// 4 P / T^2 - 4 sum P^2 / T^3.
const std::vector<Expected> kExpected = {
    // Values 1.5, 1.5, 1, 1; slope 2 c / 1, a quarter of it.
    {"sequence", AuxLossScope::kSequence, 1, 0, 1.25, {.5, 0}, {.5, 0}, false},
    // Values 1.5 and 1; slopes {4, 0} / 4 and {2, 2} / 4, a half of them.
    {"micro_batch", AuxLossScope::kMicroBatch, 1, 0, 1.25, {.5, 0}, {.25, .25}, false},
    // 2 (3 * 2.5 + 1 * 1.5) / 16; slope {6, 2} / 16.
    {"global_batch", AuxLossScope::kGlobalBatch, 1, 0, 1.125, {.375, .125}, {.375, .125}, true},
    // So far {2, 0}, brought to 4 tokens: {4, 0}, slope {8, 0} / 16. Then all.
    {"running", AuxLossScope::kRunning, 1, 0, 1.125, {.5, 0}, {.375, .125}, false},
    // No step before: as global_batch.
    {"lagged", AuxLossScope::kLagged, 1, 0, 1.125, {.375, .125}, {.375, .125}, true},
    // Values .25, .25, 0, 0. First sequence: P = {.75, .25}: 4 P - 4 * .625, a quarter of it; the third is balanced.
    {"importance, sequence", AuxLossScope::kSequence, 0, 1, .125, {.125, -.375}, {0, 0}, false},
    // Values .25 and 0. P = {1.5, .5}: 4 P / 4 - 4 * 2.5 / 8, a half of it.
    {"importance, micro_batch", AuxLossScope::kMicroBatch, 0, 1, .125, {.125, -.375}, {0, 0}, false},
    // P = {2.5, 1.5}: mean 2, variance .25. Slope 4 P / 16 - 4 * 8.5 / 64.
    {"importance, global_batch", AuxLossScope::kGlobalBatch, 0, 1, .0625, {.09375, -.15625}, {.09375, -.15625}, true},
    // So far {1.5, .5}, brought to 4 tokens: {3, 1}. Slope 4 P / 16 - 4 * 10 / 64.
    {"importance, running", AuxLossScope::kRunning, 0, 1, .0625, {.125, -.375}, {.09375, -.15625}, false},
};

void expect_near(const std::vector<double>& ours, const std::vector<double>& expected, const std::string& where) {
  ASSERT_EQ(ours.size(), expected.size()) << where;
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], expected[i], 1e-15) << where << ", expert " << i;
}

TEST(BalanceObjective, HasTheValueAndTheGradientOfItsScope) {
  for (const auto& e : kExpected) {
    auto objective = objective_of(two_experts(e.scope, e.aux, e.importance));
    const auto step = run_step(objective, two_micro_batches());
    ASSERT_EQ(step.terms.size(), 3u);
    EXPECT_EQ(step.terms[2].name, "importance_loss");
    EXPECT_NEAR(step.terms[e.aux != 0.0 ? 0 : 2].value, e.value, 1e-15) << e.name;
    EXPECT_NEAR(step.terms[e.aux != 0.0 ? 0 : 2].weighted, e.value, 1e-15) << e.name;
    EXPECT_EQ(step.counted, e.counted) << e.name;
    expect_near(step.gradients.at(0), e.first_gradient, e.name);
    expect_near(step.gradients.at(1), e.second_gradient, e.name);
  }
}

TEST(BalanceObjective, LaggedTakesTheGradientAtTheStepBeforeAndReportsTheValueOfThisOne) {
  auto objective = objective_of(two_experts(AuxLossScope::kLagged, 1, 0));
  run_step(objective, two_micro_batches());
  const auto step = run_step(objective, {statistics(matrix({{0, 1}, {0, 1}}), matrix({{.25, .75}, {.25, .75}}))});
  EXPECT_FALSE(step.counted);
  expect_near(step.gradients.at(0), {.75, .25}, "last step's {3, 1} of 4 tokens, brought to 2: 2 {1.5, .5} / 4");
  EXPECT_NEAR(step.terms[0].value, 1.5, 1e-15);  // 2 (2 * 1.5) / 4
}

TEST(BalanceObjective, LaggedDoesNotRememberAStepThatIsNotFinite) {
  auto objective = objective_of(two_experts(AuxLossScope::kLagged, 1, 0));
  run_step(objective, two_micro_batches());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  run_step(objective, {statistics(matrix({{0, 1}, {0, 1}}), matrix({{nan, nan}, {.25, .75}}))});
  const auto step = run_step(objective, {statistics(matrix({{0, 1}, {0, 1}}), matrix({{.25, .75}, {.25, .75}}))});
  expect_near(step.gradients.at(0), {.75, .25}, "the finite step before");
}

TEST(BalanceObjective, CountsNothingBeforeTheForwardWhereNoTermHasACoefficient) {
  for (const auto scope : {AuxLossScope::kGlobalBatch, AuxLossScope::kLagged}) {
    auto objective = objective_of(two_experts(scope, 0, 0));
    objective.start_step({1, 4, 4, 2});
    EXPECT_FALSE(objective.needs_counting());
    for (const auto& one : two_micro_batches()) EXPECT_FALSE(objective.add_micro_batch({one}).defined());
    EXPECT_NEAR(objective.finish(objective.local_parts()).terms[0].value, 1.125, 1e-15) << "metrics show it all the same";
  }
}

TEST(BalanceObjective, OfADenseModelIsEmpty) {
  auto objective = objective_of(tiny_config(/*moe=*/false));
  objective.start_step({1, 4, 4, 2});
  EXPECT_FALSE(objective.needs_counting());
  EXPECT_FALSE(objective.add_micro_batch({}).defined());
  EXPECT_TRUE(objective.local_parts().empty());
  EXPECT_TRUE(objective.finish({}).layers.empty());
}

/// The value of the step's weighted terms, with the gradient that the objectives of its two micro-batches have.
at::Tensor value_with_gradient(const ModelConfig& config, const at::Tensor& logits_TE) {
  constexpr int64_t kSequenceLength = 2;
  std::vector<std::vector<RoutingStatistics>> micro_batches;
  for (const auto& logits : logits_TE.chunk(2)) {
    const auto context = tiny_context(logits.size(0) / kSequenceLength, kSequenceLength, 29);
    const auto decision = decide(logits, *config.moe, context);
    const auto one = collect_statistics(logits_of(logits), decision, decision.routing, *config.moe, context);
    micro_batches.emplace_back(static_cast<size_t>(config.num_moe_layers()), one);
  }
  auto objective = objective_of(config);
  objective.start_step({1, static_cast<double>(logits_TE.size(0)), static_cast<double>(logits_TE.size(0) / kSequenceLength), 2});
  if (objective.needs_counting()) {
    for (const auto& one : micro_batches) objective.count(one);
    objective.end_counting();
  }
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (const auto& one : micro_batches) sum = sum + objective.add_micro_batch(one);
  double value = 0.0;
  for (const auto& term : objective.finish(objective.local_parts()).terms) value += term.weighted;
  return sum - sum.detach() + value;
}

TEST(BalanceObjective, GradientsMatchDifferencesInEveryScopeThatReportsWhatItDescends) {
  for (const auto form : {AuxLossForm::kMegatron, AuxLossForm::kHuggingFace}) {
    for (const auto scope : {AuxLossScope::kSequence, AuxLossScope::kMicroBatch, AuxLossScope::kGlobalBatch}) {
      if (form == AuxLossForm::kHuggingFace && scope == AuxLossScope::kSequence) continue;
      auto config = tiny_config();
      config.moe->aux_loss_form = form;
      config.moe->aux_loss_scope = config.moe->importance_loss_scope = scope;
      config.moe->aux_loss_coeff = 0.7;
      config.moe->importance_loss_coeff = 0.3;
      config.moe->z_loss_coeff = 0.1;
      expect_gradient_matches_differences([&](const at::Tensor& logits_TE) { return value_with_gradient(config, logits_TE); },
                                          normal({12, 4}, 21));
    }
  }
}

TEST(BalanceObjective, TermsHaveScopesOfTheirOwn) {
  auto config = two_experts(AuxLossScope::kGlobalBatch, 1, 1);
  config.moe->importance_loss_scope = AuxLossScope::kRunning;
  auto objective = objective_of(config);
  const auto step = run_step(objective, two_micro_batches());
  EXPECT_TRUE(step.counted);
  // The rows "global_batch" and "importance, running" above.
  expect_near(step.gradients.at(0), {.375 + .125, .125 - .375}, "first micro-batch");
  expect_near(step.gradients.at(1), {.375 + .09375, .125 - .15625}, "second micro-batch");
}

TEST(BalanceObjective, CoefficientsFollowTheStep) {
  auto config = two_experts(AuxLossScope::kGlobalBatch, 0, 0);
  config.moe->aux_loss_coeff = Coefficient({{10, 1.0}, {20, 0.5}});
  auto objective = objective_of(config);
  const auto weighted_at = [&](int64_t step) {
    objective.start_step({step, 4, 4, 1});
    objective.add_micro_batch({two_micro_batches()[0]});
    return objective.finish(objective.local_parts()).terms[0].weighted;
  };
  const double value = weighted_at(1);  // constant before the first point
  EXPECT_EQ(weighted_at(10), value);
  EXPECT_DOUBLE_EQ(weighted_at(15), 0.75 * value);
  EXPECT_DOUBLE_EQ(weighted_at(20), 0.5 * value);
  EXPECT_DOUBLE_EQ(weighted_at(1000), 0.5 * value);
}

}  // namespace
}  // namespace switchyard
