#include "core/capacity.h"

#include <gtest/gtest.h>

#include "tests/tiny_models.h"

namespace switchyard {
namespace {

/// top-2 of 3 experts; rows (token, first choice, second choice) with their weights.
///   token 0: 0 (.6), 1 (.4)   token 1: 1 (.9), 0 (.1)   token 2: 1 (.7), 2 (.3)
Routing three_tokens() {
  return {.token_N = longs({0, 0, 1, 1, 2, 2}),
          .expert_N = longs({0, 1, 1, 0, 1, 2}),
          .weight_N = at::tensor({.6, .4, .9, .1, .7, .3}, at::kDouble),
          .choice_N = longs({0, 1, 0, 1, 0, 1}),
          .num_experts = 3,
          .num_choices = 2};
}

std::vector<int64_t> kept(const Routing& routing, const QueueKeys& keys, int64_t capacity) {
  return to_longs(keep_within_capacity(routing, at::zeros({6}, at::kLong), longs({capacity}), keys));
}

QueueKeys by_choice(const Routing& routing) {
  return {.choice_N = routing.choice_N};
}
QueueKeys by_choice_and_score(const Routing& routing) {
  return {.choice_N = routing.choice_N, .score_N = routing.weight_N};
}

TEST(Capacity, DropsSecondChoicesFirstWhenAnExpertIsFull) {
  // Expert 1's queue: token 1 and token 2 (first choices), then token 0 (second choice), who finds it full.
  EXPECT_EQ(kept(three_tokens(), by_choice(three_tokens()), 2), (std::vector<int64_t>{1, 0, 1, 1, 1, 1}));
}

TEST(Capacity, AmongFirstChoicesTheEarlierPositionOrTheHigherScoreWins) {
  EXPECT_EQ(kept(three_tokens(), by_choice(three_tokens()), 1), (std::vector<int64_t>{1, 0, 1, 0, 0, 1}));
  auto routing = three_tokens();
  routing.weight_N = at::tensor({.6, .4, .7, .3, .9, .1}, at::kDouble);  // token 2 now wants expert 1 more than token 1 does
  EXPECT_EQ(kept(routing, by_choice_and_score(routing), 1), (std::vector<int64_t>{1, 0, 0, 0, 1, 1}));
}

TEST(Capacity, ScorePositionLetsAStrongSecondChoicePassAWeakFirstOne) {
  auto routing = three_tokens();
  routing.weight_N = at::tensor({.5, .5, .4, .1, .3, .3}, at::kDouble);  // token 0's second choice (.5) beats tokens 1 (.4) and 2 (.3)
  EXPECT_EQ(kept(routing, {.score_N = routing.weight_N}, 1), (std::vector<int64_t>{1, 1, 0, 0, 0, 1}));
}

TEST(Capacity, EqualScoresFallByPosition) {
  auto routing = three_tokens();
  routing.weight_N = at::full({6}, 0.5, at::kDouble);
  EXPECT_EQ(kept(routing, by_choice_and_score(routing), 1), (std::vector<int64_t>{1, 0, 1, 0, 0, 1}));
}

TEST(Capacity, GroupsHaveQueuesAndCapacitiesOfTheirOwn) {
  // Tokens 0 and 1 are group 0 (capacity 1), token 2 is group 1 (capacity 0 for nobody: capacity 2).
  const auto kept_N = keep_within_capacity(three_tokens(), longs({0, 0, 0, 0, 1, 1}), longs({1, 2}), by_choice(three_tokens()));
  EXPECT_EQ(to_longs(kept_N), (std::vector<int64_t>{1, 0, 1, 0, 1, 1}));
}

TEST(Capacity, AnAssignmentThatGoesNowhereTakesNoSlot) {
  auto routing = three_tokens();
  routing.expert_N = longs({0, 1, 3, 3, 1, 2});  // token 1 is masked
  EXPECT_EQ(kept(routing, by_choice(routing), 1), (std::vector<int64_t>{1, 0, 0, 0, 1, 1}));
}

TEST(Capacity, IsTheCeilingOfTheFairShareAndAtLeastTheMinimum) {
  MoeConfig config;
  config.num_experts = 8;
  config.top_k = 2;
  // 1.25 * 256 * 2 / 8 = 80;  1.25 * 10 * 2 / 8 = 3.125 -> 4;  no token -> 0
  EXPECT_EQ(to_longs(expert_capacity(longs({256, 10, 0}), 1.25, config)), (std::vector<int64_t>{80, 4, 0}));
  config.min_capacity = 5;
  EXPECT_EQ(to_longs(expert_capacity(longs({256, 10, 0}), 1.25, config)), (std::vector<int64_t>{80, 5, 5}));
}

TEST(Capacity, RoundingOfTheFactorDoesNotAddASlot) {
  MoeConfig config;
  config.num_experts = 1;
  config.top_k = 1;
  EXPECT_EQ(to_longs(expert_capacity(longs({10}), 1.1, config)),
            (std::vector<int64_t>{11}));  // 1.1 * 10 = 11.000000000000002 in floating point
}

/// T tokens that choose the one expert that is there.
Routing all_to_the_only_expert(int64_t T) {
  const auto zero_N = at::zeros({T}, at::kLong);
  return {at::arange(T, at::kLong), zero_N, at::ones({T}), zero_N, /*num_experts=*/1, /*num_choices=*/1};
}

TEST(Capacity, MaskedTokensDoNotCountInTheCapacity) {
  MoeConfig config;
  config.num_experts = 1;
  config.top_k = 1;
  config.capacity_factor = 0.5;
  auto context = tiny_context(1, 4, 29);
  auto routing = all_to_the_only_expert(4);
  EXPECT_EQ(to_longs(apply_capacity(routing, config, context).expert_N), (std::vector<int64_t>{0, 0, 1, 1}));
  context.mask_BS = at::tensor({1, 1, 0, 0}).to(at::kBool).view({1, 4});
  routing.expert_N = longs({0, 0, 1, 1});
  EXPECT_EQ(to_longs(apply_capacity(routing, config, context).expert_N), (std::vector<int64_t>{0, 1, 1, 1}));
}

TEST(Capacity, ARandomOrderDropsBySampleAndNotByPlaceInTheBatch) {
  MoeConfig config;
  config.num_experts = config.top_k = 1;
  config.capacity_factor = 0.5;
  config.drop_order = DropOrder::kRandom;
  auto context = tiny_context(2, 8, 29);
  const auto both = apply_capacity(all_to_the_only_expert(16), config, context).expert_N;
  EXPECT_EQ(both.narrow(0, 0, 8).sum().item<int64_t>(), 4);
  EXPECT_FALSE(at::equal(both.narrow(0, 0, 8), both.narrow(0, 8, 8)));
  auto second = tiny_context(1, 8, 29);
  second.global_sample_B = longs({1});
  EXPECT_TRUE(at::equal(apply_capacity(all_to_the_only_expert(8), config, second).expert_N, both.narrow(0, 8, 8)));
  context.step = 2;
  EXPECT_FALSE(at::equal(apply_capacity(all_to_the_only_expert(16), config, context).expert_N, both));
}

TEST(Capacity, EvaluationHasAFactorOfItsOwnAndAGroupASequence) {
  MoeConfig config;
  config.num_experts = config.top_k = 1;
  config.capacity_factor = 0.5;
  config.capacity_group.sequences = 2;
  auto routing = all_to_the_only_expert(4);
  const auto training = tiny_context(2, 2, 29), evaluation = tiny_context(2, 2, 29, /*training=*/false);
  EXPECT_EQ(to_longs(apply_capacity(routing, config, training).expert_N), (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(to_longs(apply_capacity(routing, config, evaluation).expert_N), (std::vector<int64_t>{0, 0, 0, 0}));
  config.eval_capacity_factor = 0.5;
  EXPECT_EQ(to_longs(apply_capacity(routing, config, evaluation).expert_N), (std::vector<int64_t>{0, 1, 0, 1}));
}

}  // namespace
}  // namespace switchyard
