// What holds for every routing rule.
#include <gtest/gtest.h>

#include "tests/finite_differences.h"
#include "tests/routing_tools.h"

namespace switchyard {
namespace {

struct RuleCase {
  const char* router;
  int64_t num_experts, top_k;
  int64_t groups = 1, group_top_k = 1;
};

void PrintTo(const RuleCase& rule, std::ostream* out) {
  *out << rule.router;
}

class EveryRule : public ::testing::TestWithParam<RuleCase> {
 protected:
  static MoeConfig config() {
    const auto& rule = GetParam();
    auto config = experts_config(rule.num_experts, rule.top_k, false, rule.router);
    config.groups = rule.groups;
    config.group_top_k = rule.group_top_k;
    return config;
  }

  /// All maps from one [T, E + E + G + G] tensor.
  static RouterLogits logits(const at::Tensor& all, const MoeConfig& config) {
    const int64_t E = config.num_experts, G = config.groups;
    RouterLogits logits{.num_tokens = all.size(0), .options = all.options()};
    const auto& maps = routing_rules().at(config.router).maps;
    if (maps.experts) logits.expert_TE = all.narrow(1, 0, E);
    if (maps.noise) logits.expert_noise_TE = all.narrow(1, E, E);
    if (maps.groups) logits.group_TG = all.narrow(1, 2 * E, G);
    if (maps.groups) logits.group_noise_TG = all.narrow(1, 2 * E + G, G);
    return logits;
  }

  static at::Tensor random_maps(int64_t T, uint64_t seed) { return normal({T, 2 * config().num_experts + 2 * config().groups}, seed); }
};

TEST_P(EveryRule, GradientsOfWeightsProbabilitiesAndLoadsMatchDifferences) {
  const auto probe = normal({12 * 24}, 20);
  const auto context = tiny_context(2, 4, 29);
  const auto scalar = [&](const at::Tensor& all) {
    const auto decision = decide(logits(all, config()), config(), context);
    auto sum = (decision.routing.weight_N * probe.narrow(0, 0, decision.routing.weight_N.size(0))).sum();
    for (const auto& part : {decision.probability_TE, decision.load_TE, decision.group_load_TG}) {
      if (part.defined()) sum = sum + (part.flatten() * probe.narrow(0, 1, part.numel())).sum();
    }
    return sum + 0.0 * all.sum();  // rules without weights too have a graph
  };
  expect_gradient_matches_differences(scalar, random_maps(8, 21));
}

TEST_P(EveryRule, ListsEveryChoiceOnceAndSendsMaskedTokensNowhere) {
  auto context = tiny_context(2, 4, 29);
  context.mask_BS[0][1] = false;
  const auto routing = decide(logits(random_maps(8, 22), config()), config(), context).routing;
  const int64_t C = num_choices(config()), E = config().num_experts;
  EXPECT_EQ(routing.num_choices, C);
  EXPECT_EQ(to_longs(routing.token_N), to_longs(at::arange(8, at::kLong).repeat_interleave(C)));
  EXPECT_EQ(to_longs(routing.choice_N), to_longs(at::arange(C, at::kLong).repeat({8})));
  EXPECT_TRUE((choices(routing)[1] == E).all().item<bool>());
  for (int64_t t = 0; t < 8; ++t) {
    const auto chosen = choices(routing)[t], real = chosen.index({chosen < E});
    EXPECT_EQ(std::get<0>(at::_unique2(real)).size(0), real.size(0)) << "token " << t << " chose an expert twice";
  }
}

TEST_P(EveryRule, DecidesAboutASequenceTheSameWhereverItStands) {
  const auto maps = random_maps(12, 23);
  const auto whole = decide(logits(maps, config()), config(), tiny_context(3, 4, 29)).routing;
  auto alone = tiny_context(3, 4, 29);
  alone.token_ids_BS = alone.token_ids_BS.narrow(0, 1, 1);
  alone.global_sample_B = longs({1});
  alone.mask_BS = alone.mask_BS.narrow(0, 1, 1);
  const auto second = decide(logits(maps.narrow(0, 4, 4), config()), config(), alone).routing;
  EXPECT_TRUE(at::equal(choices(whole).narrow(0, 4, 4), choices(second)));
  EXPECT_TRUE(at::allclose(weights(whole).narrow(0, 4, 4), weights(second), 0, 1e-14));
}

TEST_P(EveryRule, TakesEqualLogitsAndNoTokens) {
  const auto width = random_maps(1, 0).size(1);
  const auto ties = decide(logits(at::zeros({4, width}, at::kDouble), config()), config(), tiny_context(1, 4, 29, /*training=*/false));
  EXPECT_TRUE(ties.routing.weight_N.isfinite().all().item<bool>());
  const auto empty = decide(logits(at::zeros({0, width}, at::kDouble), config()), config(), tiny_context(1, 0, 29));
  EXPECT_EQ(empty.routing.expert_N.size(0), 0);
}

TEST_P(EveryRule, KeepsToTheListAndToOtherTokensWhenALogitIsNoNumber) {
  auto maps = random_maps(8, 24);
  const auto before = decide(logits(maps, config()), config(), tiny_context(2, 4, 29)).routing;
  maps[5].fill_(std::numeric_limits<double>::quiet_NaN());
  const auto after = decide(logits(maps, config()), config(), tiny_context(2, 4, 29)).routing;
  EXPECT_TRUE((after.expert_N >= 0).logical_and(after.expert_N <= config().num_experts).all().item<bool>());
  // Tokens of other sequences choose as if nothing had happened; those of its own too where tokens do not compete.
  const int64_t untouched = routing_rules().at(config().router).compares_tokens ? 4 : 5;
  EXPECT_TRUE(at::equal(choices(before).narrow(0, 0, untouched), choices(after).narrow(0, 0, untouched)));
}

INSTANTIATE_TEST_SUITE_P(Rules, EveryRule,
                         ::testing::Values(RuleCase{"top_k", 6, 2}, RuleCase{"top_k", 1, 1}, RuleCase{"top_k", 6, 6},
                                           RuleCase{"top_k", 6, 2, 3, 2}, RuleCase{"dense", 3, 3}, RuleCase{"noisy_top_k", 5, 2},
                                           RuleCase{"noisy_top_k", 3, 3}, RuleCase{"hierarchical", 6, 4, 3, 2},
                                           RuleCase{"hierarchical", 4, 2, 2, 2}, RuleCase{"gshard_top_2", 4, 2},
                                           RuleCase{"expert_choice", 4, 2}, RuleCase{"sinkhorn", 4, 1}, RuleCase{"hash", 5, 2},
                                           RuleCase{"forced_uniform", 5, 2}, RuleCase{"forced_random", 5, 2},
                                           RuleCase{"forced_zipf", 5, 2}),
                         [](const auto& info) {
                           return std::string(info.param.router) + "_" + std::to_string(info.param.top_k) + "_of_" +
                                  std::to_string(info.param.num_experts) + (info.param.groups > 1 ? "_in_groups" : "");
                         });

}  // namespace
}  // namespace switchyard
