// Every routing rule against a slow, obvious reference: loops over numbers, a token at a time.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/routing_tools.h"

namespace switchyard {
namespace {

using Numbers = std::vector<double>;

Numbers row(const at::Tensor& matrix_TE, int64_t t) {
  const auto values = matrix_TE[t].to(at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

/// Places of the k largest; of equals the first.
std::vector<size_t> largest(const Numbers& values, size_t k) {
  std::vector<size_t> places(values.size());
  std::iota(places.begin(), places.end(), size_t{0});
  std::ranges::stable_sort(places, [&](size_t a, size_t b) { return values[a] > values[b]; });
  places.resize(k);
  return places;
}

Numbers softmax(const Numbers& z) {
  Numbers p;
  for (const double value : z) p.push_back(std::exp(value));
  const double sum = std::reduce(p.begin(), p.end());
  for (double& value : p) value /= sum;
  return p;
}

double sigmoid(double z) {
  return 1.0 / (1.0 + std::exp(-z));
}

double normal_distribution(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

void expect_choices(const RoutingDecision& decision, int64_t t, const std::vector<size_t>& experts, const Numbers& weights_of_them) {
  const auto chosen_K = choices(decision.routing)[t];
  const auto given = row(weights(decision.routing), t);
  ASSERT_EQ(chosen_K.size(0), static_cast<int64_t>(experts.size()));
  for (size_t k = 0; k < experts.size(); ++k) {
    EXPECT_EQ(chosen_K[static_cast<int64_t>(k)].item<int64_t>(), static_cast<int64_t>(experts[k])) << "token " << t << ", choice " << k;
    EXPECT_NEAR(given[k], weights_of_them[k], 1e-12) << "token " << t << ", choice " << k;
  }
}

TEST(RoutingRules, TopKWithSigmoidsScaleAndABiasThatOnlyChooses) {
  auto config = experts_config(6, 3, /*renormalize=*/true);
  config.score = ScoreFunction::kSigmoid;
  config.scale = 2.5;
  auto logits = logits_of(normal({7, 6}, 1));
  logits.selection_bias_E = at::tensor({0.5, 0.0, -0.5, 0.2, 0.0, 0.1}, at::kDouble);
  const auto decision = decide(logits, config, tiny_context(1, 7, 29));
  for (int64_t t = 0; t < 7; ++t) {
    Numbers score, biased;
    for (const double z : row(logits.expert_TE, t)) score.push_back(sigmoid(z));
    for (size_t e = 0; e < 6; ++e) biased.push_back(score[e] + row(logits.selection_bias_E.unsqueeze(0), 0)[e]);
    const auto chosen = largest(biased, 3);
    const double sum = score[chosen[0]] + score[chosen[1]] + score[chosen[2]];
    expect_choices(decision, t, chosen, {2.5 * score[chosen[0]] / sum, 2.5 * score[chosen[1]] / sum, 2.5 * score[chosen[2]] / sum});
    const double all = std::reduce(score.begin(), score.end());
    for (size_t e = 0; e < 6; ++e) EXPECT_NEAR(row(decision.probability_TE, t)[e], score[e] / all, 1e-12);
  }
}

TEST(RoutingRules, TopKStaysWithinTheBestGroups) {
  for (const auto by : {GroupScore::kBest, GroupScore::kBestTwo}) {
    auto config = experts_config(8, 3);
    config.groups = 4;
    config.group_top_k = 2;
    config.group_score = by;
    const auto z = normal({9, 8}, 2);
    const auto decision = decide(z, config, tiny_context(1, 9, 29));
    for (int64_t t = 0; t < 9; ++t) {
      const auto p = softmax(row(z, t));
      Numbers group;
      for (size_t g = 0; g < 4; ++g) group.push_back(by == GroupScore::kBest ? std::max(p[2 * g], p[2 * g + 1]) : p[2 * g] + p[2 * g + 1]);
      auto allowed = p;
      const auto groups = largest(group, 2);
      for (size_t e = 0; e < 8; ++e) {
        if (e / 2 != groups[0] && e / 2 != groups[1]) allowed[e] = -1.0;
      }
      const auto chosen = largest(allowed, 3);
      expect_choices(decision, t, chosen, {p[chosen[0]], p[chosen[1]], p[chosen[2]]});
    }
  }
}

TEST(RoutingRules, DenseVisitsAllExperts) {
  const auto z = normal({5, 3}, 3);
  const auto decision = decide(z, experts_config(3, 3, false, "dense"), tiny_context(1, 5, 29));
  for (int64_t t = 0; t < 5; ++t) expect_choices(decision, t, {0, 1, 2}, softmax(row(z, t)));
}

/// A noisy gate's logits, noise drawn by the rule itself in training.
RouterLogits noisy_logits(int64_t T, int64_t E, uint64_t seed) {
  auto logits = logits_of(normal({T, E}, seed));
  logits.expert_noise_TE = normal({T, E}, seed + 1);
  return logits;
}

/// Phi((z_i - k-th largest of h without i) / deviation_i).
double chance(const Numbers& z, const Numbers& h, const Numbers& deviation, size_t i, size_t k) {
  auto others = h;
  others.erase(others.begin() + static_cast<int64_t>(i));
  std::ranges::sort(others, std::greater<>());
  return normal_distribution((z[i] - others[k - 1]) / deviation[i]);
}

Numbers softplus(const Numbers& values) {
  Numbers result;
  for (const double value : values) result.push_back(std::log1p(std::exp(value)));
  return result;
}

TEST(RoutingRules, NoisyTopKWithoutNoiseInEvaluation) {
  const auto logits = noisy_logits(6, 5, 4);
  const auto decision = decide(logits, experts_config(5, 2, true, "noisy_top_k"), tiny_context(1, 6, 29, /*training=*/false));
  for (int64_t t = 0; t < 6; ++t) {
    const auto z = row(logits.expert_TE, t), deviation = softplus(row(logits.expert_noise_TE, t));
    const auto chosen = largest(z, 2);
    expect_choices(decision, t, chosen, softmax({z[chosen[0]], z[chosen[1]]}));
    for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(row(decision.load_TE, t)[i], chance(z, z, deviation, i, 2), 1e-12);
  }
}

TEST(RoutingRules, NoiseIsNormalWithTheLearnedDeviationAndBelongsToTheSample) {
  constexpr int64_t kTokens = 4000;
  auto logits = logits_of(at::zeros({kTokens, 4}, at::kDouble));
  logits.expert_noise_TE = at::full({kTokens, 4}, std::log(std::expm1(2.0)), at::kDouble);  // softplus of it is 2
  auto context = tiny_context(2, kTokens / 2, 29);
  // With two of four places and logits of zero the weight of the first is sigmoid(h_1 - h_2): the noise can be had back from it.
  const auto config = experts_config(4, 2, true, "noisy_top_k");
  const auto first = decide(logits, config, context);
  const auto difference_T = weights(first.routing).select(1, 0).logit();
  // The two largest of four standard normals are 1.0294 and 0.2970 on average.
  EXPECT_NEAR(difference_T.mean().item<double>(), 2.0 * (1.0294 - 0.2970), 0.05);
  const auto counts_E = first.routing.expert_N.bincount({}, 4).to(at::kDouble);
  EXPECT_LT((counts_E - kTokens / 2.0).abs().max().item<double>(), 6.0 * std::sqrt(kTokens / 4.0));
  context.global_sample_B = longs({1, 0});
  const auto exchanged = decide(logits, config, context);
  EXPECT_TRUE(at::equal(choices(first.routing).narrow(0, 0, kTokens / 2), choices(exchanged.routing).narrow(0, kTokens / 2, kTokens / 2)));
}

TEST(RoutingRules, HierarchicalChoosesGroupsThenExpertsInThem) {
  auto config = experts_config(12, 4, true, "hierarchical");
  config.groups = 4;
  config.group_top_k = 2;
  auto logits = noisy_logits(8, 12, 6);
  logits.group_TG = normal({8, 4}, 8);
  logits.group_noise_TG = normal({8, 4}, 9);
  const auto decision = decide(logits, config, tiny_context(1, 8, 29, /*training=*/false));
  for (int64_t t = 0; t < 8; ++t) {
    const auto group = row(logits.group_TG, t), z = row(logits.expert_TE, t);
    const auto groups = largest(group, 2);
    const auto group_gate = softmax({group[groups[0]], group[groups[1]]});
    std::vector<size_t> chosen;
    Numbers gate, load(12, 0.0);
    for (size_t g = 0; g < 2; ++g) {
      const auto begin = z.begin() + static_cast<int64_t>(3 * groups[g]);
      const Numbers inside(begin, begin + 3);
      const auto noise = row(logits.expert_noise_TE, t);
      const auto deviation =
          softplus(Numbers(noise.begin() + static_cast<int64_t>(3 * groups[g]), noise.begin() + static_cast<int64_t>(3 * groups[g] + 3)));
      const auto best = largest(inside, 2);
      const auto inner_gate = softmax({inside[best[0]], inside[best[1]]});
      for (size_t k = 0; k < 2; ++k) {
        chosen.push_back(3 * groups[g] + best[k]);
        gate.push_back(group_gate[g] * inner_gate[k]);
      }
      for (size_t i = 0; i < 3; ++i) load[3 * groups[g] + i] = chance(inside, inside, deviation, i, 2);
    }
    expect_choices(decision, t, chosen, gate);
    for (size_t e = 0; e < 12; ++e) EXPECT_NEAR(row(decision.load_TE, t)[e], load[e], 1e-12) << "expert " << e;
    const auto group_deviation = softplus(row(logits.group_noise_TG, t));
    for (size_t g = 0; g < 4; ++g) EXPECT_NEAR(row(decision.group_load_TG, t)[g], chance(group, group, group_deviation, g, 2), 1e-12);
  }
}

TEST(RoutingRules, GshardSkipsTheSecondExpertAsOftenAsItsWeightSays) {
  constexpr int64_t kTokens = 3000;
  // Renormalised weights 0.8 and 0.2: the second is kept with probability 0.4.
  const auto z = at::tensor({std::log(0.8), std::log(0.2), -30.0}, at::kDouble).expand({kTokens, 3}).contiguous();
  const auto config = experts_config(3, 2, true, "gshard_top_2");
  const auto decision = decide(z, config, tiny_context(1, kTokens, 29));
  const auto second_T = choices(decision.routing).select(1, 1);
  const double kept = (second_T == 1).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(kept, 0.4, 5.0 * std::sqrt(0.24 / kTokens));
  EXPECT_EQ(((second_T == 1).logical_or(second_T == 3)).sum().item<int64_t>(), kTokens);
  EXPECT_NEAR(decision.routing.weight_N[0].item<double>(), 0.8, 1e-12);
  const auto evaluated = decide(z, config, tiny_context(1, kTokens, 29, /*training=*/false));
  EXPECT_EQ((choices(evaluated.routing).select(1, 1) == 1).sum().item<int64_t>(), kTokens);
}

TEST(RoutingRules, ExpertChoiceLetsEachExpertTakeItsBestTokens) {
  auto config = experts_config(4, 2, false, "expert_choice");
  config.capacity_factor = 0.75;
  auto context = tiny_context(2, 8, 29);
  context.mask_BS[1][6] = context.mask_BS[1][7] = false;
  const auto z = normal({16, 4}, 10);
  const auto decision = decide(z, config, context);
  for (int64_t b = 0; b < 2; ++b) {
    const int64_t tokens = b == 0 ? 8 : 6;
    const auto capacity = static_cast<size_t>(std::ceil(0.75 * static_cast<double>(tokens) * 2.0 / 4.0));
    for (size_t e = 0; e < 4; ++e) {
      Numbers p;
      for (int64_t s = 0; s < tokens; ++s) p.push_back(softmax(row(z, b * 8 + s))[e]);
      const auto taken = largest(p, capacity);
      for (int64_t s = 0; s < 8; ++s) {
        const bool takes = std::ranges::find(taken, static_cast<size_t>(s)) != taken.end();
        EXPECT_EQ(choices(decision.routing)[b * 8 + s][static_cast<int64_t>(e)].item<int64_t>(), takes ? static_cast<int64_t>(e) : 4);
      }
    }
  }
  EXPECT_TRUE(at::equal(weights(decision.routing), z.softmax(-1)));
}

TEST(RoutingRules, SinkhornSharesTokensOutAlmostEvenlyInTrainingOnly) {
  const auto config = experts_config(4, 1, false, "sinkhorn");
  const auto z = normal({64, 4}, 11) + at::tensor({3.0, 0.0, 0.0, 0.0}, at::kDouble);  // everyone likes expert 0 best
  const auto training = decide(z, config, tiny_context(1, 64, 29)), evaluation = decide(z, config, tiny_context(1, 64, 29, false));
  EXPECT_GT(evaluation.routing.expert_N.bincount({}, 4)[0].item<int64_t>(), 48);
  const auto counts_E = training.routing.expert_N.bincount({}, 4);
  EXPECT_LE(counts_E.max().item<int64_t>(), 24);
  EXPECT_GE(counts_E.min().item<int64_t>(), 10);
  EXPECT_TRUE(at::allclose(training.routing.weight_N, z.sigmoid().gather(1, choices(training.routing)).flatten(), 0, 1e-15));
}

TEST(RoutingRules, SinkhornOfAPaddedGroupIsThatOfItsTokens) {
  const auto config = experts_config(3, 1, false, "sinkhorn");
  const auto z = normal({8, 3}, 12);
  auto padded = tiny_context(1, 8, 29);
  padded.mask_BS.narrow(1, 5, 3).fill_(false);
  const auto alone = decide(z.narrow(0, 0, 5), config, tiny_context(1, 5, 29));
  EXPECT_TRUE(at::equal(decide(z, config, padded).routing.expert_N.narrow(0, 0, 5), alone.routing.expert_N));
}

TEST(RoutingRules, HashDependsOnTheTokenIdAndTheLayerAlone) {
  const auto config = experts_config(5, 2, true, "hash");
  RouterLogits logits{.num_tokens = 40, .options = at::dtype(at::kDouble)};
  auto context = tiny_context(4, 10, 13);
  const auto decision = decide(logits, config, context);
  const auto ids_T = context.token_ids_BS.flatten();
  for (int64_t a = 0; a < 40; ++a) {
    for (int64_t b = 0; b < a; ++b) {
      if (ids_T[a].item<int64_t>() != ids_T[b].item<int64_t>()) continue;
      EXPECT_TRUE(at::equal(choices(decision.routing)[a], choices(decision.routing)[b]));
    }
  }
  EXPECT_TRUE((decision.routing.weight_N == 0.5).all().item<bool>());
  context.step = 99;
  context.seed = 5;
  EXPECT_TRUE(at::equal(decide(logits, config, context).routing.expert_N, decision.routing.expert_N));
  context.layer = 1;
  EXPECT_FALSE(at::equal(decide(logits, config, context).routing.expert_N, decision.routing.expert_N));
}

TEST(RoutingRules, ForcedRulesLoadExpertsAsTheirNamesSay) {
  constexpr int64_t kTokens = 6000;
  RouterLogits logits{.num_tokens = kTokens, .options = at::dtype(at::kDouble)};
  const auto context = tiny_context(2, kTokens / 2, 29);
  const auto counts = [&](const char* rule) {
    return decide(logits, experts_config(4, 1, false, rule), context).routing.expert_N.bincount({}, 4).to(at::kDouble);
  };
  EXPECT_TRUE((counts("forced_uniform") == kTokens / 4).all().item<bool>());
  EXPECT_LT((counts("forced_random") - kTokens / 4).abs().max().item<double>(), 6.0 * std::sqrt(kTokens * 3.0 / 16.0));
  const auto zipf_E = counts("forced_zipf");
  const double harmonic = 1.0 + 1.0 / 2 + 1.0 / 3 + 1.0 / 4;
  for (int64_t e = 0; e < 4; ++e) {
    const double expected = static_cast<double>(kTokens) / (static_cast<double>(e + 1) * harmonic);
    EXPECT_NEAR(zipf_E[e].item<double>(), expected, 6.0 * std::sqrt(expected)) << "expert " << e;
  }
}

}  // namespace
}  // namespace switchyard
