#include <gtest/gtest.h>

#include "core/balance.h"
#include "core/router.h"
#include "core/routing/statistics.h"
#include "tests/finite_differences.h"
#include "tests/routing_tools.h"

namespace switchyard {
namespace {

TEST(TopK, TakesTheLikeliestExpertsInOrder) {
  const auto logits = matrix({{0.0, 2.0, 1.0}, {3.0, 0.0, 1.0}});
  const auto decision = decide(logits, experts_config(3, 2, false), tiny_context(1, 2, 29));
  EXPECT_EQ(to_longs(decision.routing.expert_N), (std::vector<int64_t>{1, 2, 0, 2}));
  EXPECT_EQ(to_longs(decision.routing.token_N), (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(to_longs(decision.routing.choice_N), (std::vector<int64_t>{0, 1, 0, 1}));
  const double total = 1.0 + std::exp(1.0) + std::exp(2.0);
  EXPECT_NEAR(decision.routing.weight_N[0].item<double>(), std::exp(2.0) / total, 1e-15);
}

TEST(TopK, RenormalisedWeightsOfATokenSumToOne) {
  const auto decision = decide(normal({5, 4}, 1), experts_config(4, 2, true), tiny_context(1, 5, 29));
  EXPECT_TRUE(at::allclose(decision.routing.weight_N.view({5, 2}).sum(1), at::ones({5}, at::kDouble), 0, 1e-15));
}

TEST(TopK, TiesGoToTheLowerExpertNumber) {
  const auto decision = decide(at::zeros({3, 6}), experts_config(6, 3, false), tiny_context(1, 3, 29));
  EXPECT_EQ(to_longs(decision.routing.expert_N), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1, 2}));
}

TEST(TopK, MaskedTokensGoNowhere) {
  auto context = tiny_context(1, 3, 29);
  context.mask_BS = at::tensor({1, 0, 1}).to(at::kBool).view({1, 3});
  const auto decision = decide(at::zeros({3, 2}), experts_config(2, 1, false), context);
  EXPECT_EQ(to_longs(decision.routing.expert_N), (std::vector<int64_t>{0, 2, 0}));
}

TEST(TopK, AllExpertsCanBeChosen) {
  const auto logits = normal({4, 3}, 2);
  const auto decision = decide(logits, experts_config(3, 3, false), tiny_context(1, 4, 29));
  EXPECT_TRUE(at::allclose(decision.routing.weight_N.view({4, 3}).sum(1), at::ones({4}, at::kDouble)));
}

TEST(TopK, WeightsHaveTheGradientOfTheSoftmax) {
  for (const bool renormalize : {false, true}) {
    const auto probe = normal({6}, 3);
    expect_gradient_matches_differences(
        [&](const at::Tensor& logits) {
          return (decide(logits, experts_config(4, 2, renormalize), tiny_context(1, 3, 29)).routing.weight_N * probe).sum();
        },
        normal({3, 4}, 4));
  }
}

TEST(Router, JitterMovesTheLogitsOnlyInTrainingAndTheSameForTheSameStep) {
  auto config = experts_config(4, 2, true);
  config.input_jitter = 0.1;
  Router router(config, 16);
  router->parameters()[0].set_data(normal({4, 16}, 5, at::kFloat));
  const auto x = normal({8, 16}, 6, at::kFloat);
  auto context = tiny_context(2, 4, 29, /*training=*/false);
  const auto plain = router->forward(x, context).logits.expert_TE;
  context.training = true;
  const auto jittered = router->forward(x, context).logits.expert_TE;
  EXPECT_FALSE(at::equal(plain, jittered));
  EXPECT_TRUE(at::equal(jittered, router->forward(x, context).logits.expert_TE));
  context.step = 2;
  EXPECT_FALSE(at::equal(jittered, router->forward(x, context).logits.expert_TE));
}

TEST(Router, JitterOfASequenceDoesNotDependOnItsPlaceInTheBatch) {
  auto config = experts_config(4, 2, true);
  config.input_jitter = 0.1;
  Router router(config, 16);
  router->parameters()[0].set_data(normal({4, 16}, 5));
  const auto x = normal({8, 16}, 6);
  const auto whole = router->forward(x, tiny_context(2, 4, 29)).logits.expert_TE;
  auto second = tiny_context(1, 4, 29);
  second.global_sample_B = longs({1});
  EXPECT_TRUE(at::equal(whole.narrow(0, 4, 4), router->forward(x.narrow(0, 4, 4).contiguous(), second).logits.expert_TE));
}

/// Two tokens, two experts, top-1: token 0 to expert 0, token 1 to expert 0.
RoutingSums both_to_expert_zero() {
  auto packed = at::zeros({RoutingSums::size({2})}, at::kDouble);
  RoutingSums sums(packed, {2});
  sums.assigned_E().copy_(at::tensor({2.0, 0.0}));
  sums.probability_E().copy_(at::tensor({1.5, 0.5}));
  sums.tokens().fill_(2.0);
  sums.z().fill_(6.0);
  return sums;
}

TEST(Balance, SwitchLossIsExpertsTimesShareTimesProbability) {
  // 2 * (1.0 * 0.75 + 0.0 * 0.25) = 1.5
  EXPECT_DOUBLE_EQ(switch_balance_loss(both_to_expert_zero(), 1).item<double>(), 1.5);
}

TEST(Balance, SwitchLossIsOneAtPerfectBalance) {
  auto packed = at::zeros({RoutingSums::size({4})}, at::kDouble);
  RoutingSums sums(packed, {4});
  sums.assigned_E().fill_(4.0);  // 8 tokens, top-2
  sums.probability_E().fill_(2.0);
  sums.tokens().fill_(8.0);
  EXPECT_DOUBLE_EQ(switch_balance_loss(sums, 2).item<double>(), 1.0);
}

TEST(Balance, ZLossIsTheMeanSquareOfTheLogsumexp) {
  EXPECT_DOUBLE_EQ(router_z_loss(both_to_expert_zero()).item<double>(), 3.0);
}

TEST(Balance, ImportanceLossIsTheSquaredCoefficientOfVariationOfTheProbabilities) {
  // Probabilities 1.5 and 0.5: mean 1, variance 0.25
  EXPECT_DOUBLE_EQ(importance_loss(both_to_expert_zero()).item<double>(), 0.25);
  const auto importance_of = [](const at::Tensor& probability_E) {
    const auto rest = at::zeros({RoutingSums::size({3}) - 12}, at::kDouble);
    return importance_loss(RoutingSums(at::cat({at::zeros({9}, at::kDouble), probability_E, rest}), {3}));
  };
  EXPECT_EQ(importance_of(at::full({3}, 2.0, at::kDouble)).item<double>(), 0.0);
  expect_gradient_matches_differences(importance_of, at::tensor({3.0, 1.0, 2.0}, at::kDouble));
}

TEST(Balance, ImportanceLossOfNoTokensIsZeroWithAFiniteGradient) {
  auto packed = at::zeros({RoutingSums::size({2})}, at::kDouble).requires_grad_();
  const auto loss = importance_loss(RoutingSums(packed, {2}));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0.0);
  EXPECT_EQ(packed.grad().abs().max().item<double>(), 0.0);
}

TEST(Balance, HuggingFaceFormPoolsLayersAndCountsAllChoices) {
  auto config = tiny_config();
  config.moe->aux_loss_form = AuxLossForm::kHuggingFace;
  config.moe->num_experts = 2;
  const auto terms = balance_terms(config);
  // Two equal layers: pooled assigned {4, 0}, probability {3, 1}, tokens 4 -> 2 * (4/4 * 3/4) = 1.5
  EXPECT_DOUBLE_EQ(terms[0].value({both_to_expert_zero(), both_to_expert_zero()}).item<double>(), 1.5);
}

TEST(Balance, SurrogatesOfThePartsAddUpToTheGradientOfTheWhole) {
  auto config = tiny_config();
  const auto term = balance_terms(config)[0];
  const auto logits = normal({8, 4}, 11);
  const auto statistics = [&](const at::Tensor& part, int64_t B) {
    const auto context = tiny_context(B, 2, 29);
    const auto decision = decide(part, *config.moe, context);
    return RoutingSums(collect_statistics(logits_of(part), decision, decision.routing, *config.moe, context));
  };
  const auto whole = logits.clone().requires_grad_();
  term.value({statistics(whole, 4), statistics(whole, 4)}).backward();

  const auto parts = logits.clone().requires_grad_();
  const auto first = statistics(parts.narrow(0, 0, 6), 3), second = statistics(parts.narrow(0, 6, 2), 1);
  const RoutingSums total(first.packed().detach() + second.packed().detach(), {4});
  (surrogate(term, {first, first}, {total, total}) + surrogate(term, {second, second}, {total, total})).backward();
  EXPECT_TRUE(at::allclose(parts.grad(), whole.grad(), 1e-12, 1e-15));
}

TEST(Balance, SequenceScopeSumsTheValuesOfSingleSequences) {
  auto config = tiny_config();
  const auto term = balance_terms(config)[0];
  const auto logits = normal({6, 4}, 12);
  const auto collect = [&](const at::Tensor& part, int64_t B) {
    const auto context = tiny_context(B, 2, 29);
    const auto decision = decide(part, *config.moe, context);
    return collect_statistics(logits_of(part), decision, decision.routing, *config.moe, context);
  };
  double sum = 0.0;
  for (int64_t b = 0; b < 3; ++b) sum += term.value({RoutingSums(collect(logits.narrow(0, 2 * b, 2), 1))}).item<double>();
  EXPECT_NEAR(sum_over_sequences(term, {collect(logits, 3)}).item<double>(), sum, 1e-12);
}

TEST(Statistics, AccountForEveryAssignment) {
  const auto config = experts_config(3, 2, true);
  auto context = tiny_context(2, 3, 29);
  context.mask_BS[1][2] = false;
  const auto logits = normal({6, 3}, 13);
  const auto decision = decide(logits, config, context);
  auto after = decision.routing;
  after.expert_N = after.expert_N.clone();
  after.expert_N[2] = 3;  // token 1 loses both of its experts
  after.expert_N[3] = 3;
  after.expert_N[0] = 3;  // token 0 loses its first one
  const RoutingSums sums(collect_statistics(logits_of(logits), decision, after, config, context));
  EXPECT_EQ(sums.assigned_E().sum().item<double>(), 10.0);  // 5 unmasked tokens x 2
  EXPECT_EQ(sums.dropped_E().sum().item<double>(), 3.0);
  EXPECT_EQ(sums.tokens().item<double>(), 5.0);
  EXPECT_EQ(sums.lost_tokens().item<double>(), 1.0);
  EXPECT_NEAR(sums.gate_mass().item<double>(), 5.0, 1e-12);
  EXPECT_NEAR(sums.dropped_gate_mass().item<double>(), 1.0 + decision.routing.weight_N[0].item<double>(), 1e-12);
  EXPECT_EQ(sums.non_finite().item<double>(), 0.0);
}

TEST(Statistics, KnowHowLikelyTheExpertsOfADomainAre) {
  auto config = experts_config(4, 1);
  config.domains = 2;  // domain 0 owns experts 0 and 2, domain 1 owns 1 and 3
  auto context = tiny_context(2, 1, 29);
  context.domain_B = longs({1, 0});
  const auto logits = normal({2, 4}, 14);
  const auto p = logits.softmax(-1);
  const auto decision = decide(logits, config, context);
  const RoutingSums sums(collect_statistics(logits_of(logits), decision, decision.routing, config, context));
  const auto expected = -(p[0][1] + p[0][3]).log() - (p[1][0] + p[1][2]).log();
  EXPECT_NEAR(sums.domain().item<double>(), expected.item<double>(), 1e-12);
  EXPECT_NEAR(domain_loss(sums).item<double>(), expected.item<double>() / 2.0, 1e-12);
}

TEST(Statistics, CountTokensWithANonFiniteLogit) {
  const auto config = experts_config(3, 2, true);
  const auto context = tiny_context(1, 2, 29);
  auto logits = at::zeros({2, 3});
  logits[1][0] = std::numeric_limits<double>::quiet_NaN();
  const auto decision = decide(logits, config, context);
  EXPECT_EQ(RoutingSums(collect_statistics(logits_of(logits), decision, decision.routing, config, context)).non_finite().item<double>(),
            1.0);
}

}  // namespace
}  // namespace switchyard
