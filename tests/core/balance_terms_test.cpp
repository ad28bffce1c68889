// The terms over groups and smooth loads, against loops over their definitions.
#include <gtest/gtest.h>

#include "core/balance.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

constexpr int64_t kExperts = 6, kGroups = 3, kTopK = 2, kGroupTopK = 2;
constexpr double kTokens = 10.0;

/// Numbers that mean nothing but differ from each other.
RoutingSums some_sums() {
  const SumsShape shape{.num_experts = kExperts, .num_groups = kGroups};
  RoutingSums sums(normal({RoutingSums::size(shape)}, 5).abs() + 0.1, shape);
  sums.tokens().fill_(kTokens);
  return sums;
}

double at_place(const at::Tensor& values, int64_t i) {
  return values[i].item<double>();
}

double squared_variation(const std::vector<double>& values) {
  double mean = 0.0, variance = 0.0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) variance += (value - mean) * (value - mean) / static_cast<double>(values.size());
  return variance / (mean * mean);
}

TEST(GroupTerms, AreGroupsTimesShareTimesProbability) {
  const auto sums = some_sums();
  double group = 0.0, communication = 0.0;
  for (int64_t g = 0; g < kGroups; ++g) {
    double assigned = 0.0, probability = 0.0;
    for (int64_t e = 2 * g; e < 2 * g + 2; ++e) {
      assigned += at_place(sums.assigned_E(), e);
      probability += at_place(sums.probability_E(), e);
    }
    group += kGroups * assigned / (kTopK * kTokens) * probability / kTokens;
    communication += kGroups * at_place(sums.group_visits_G(), g) / (kGroupTopK * kTokens) * probability / kTokens;
  }
  EXPECT_NEAR(group_balance_loss(sums, kTopK).item<double>(), group, 1e-12);
  EXPECT_NEAR(communication_loss(sums, kGroupTopK).item<double>(), communication, 1e-12);
}

TEST(LoadLoss, IsTheSquaredVariationOfTheLoads) {
  const auto sums = some_sums();
  std::vector<double> one_level, two_levels;
  for (int64_t e = 0; e < kExperts; ++e) {
    one_level.push_back(at_place(sums.load_E(), e));
    const int64_t g = e / 2;
    two_levels.push_back(at_place(sums.load_E(), e) * at_place(sums.group_load_G(), g) / std::max(1.0, at_place(sums.group_visits_G(), g)));
  }
  EXPECT_NEAR(load_loss(sums, /*two_levels=*/false).item<double>(), squared_variation(one_level), 1e-12);
  EXPECT_NEAR(load_loss(sums, /*two_levels=*/true).item<double>(), squared_variation(two_levels), 1e-12);
}

TEST(GroupTerms, AreOneAtPerfectBalance) {
  const SumsShape shape{.num_experts = kExperts, .num_groups = kGroups};
  RoutingSums sums(at::zeros({RoutingSums::size(shape)}, at::kDouble), shape);
  sums.tokens().fill_(kTokens);
  sums.assigned_E().fill_(kTopK * kTokens / kExperts);
  sums.probability_E().fill_(kTokens / kExperts);
  sums.group_visits_G().fill_(kGroupTopK * kTokens / kGroups);
  EXPECT_DOUBLE_EQ(group_balance_loss(sums, kTopK).item<double>(), 1.0);
  EXPECT_DOUBLE_EQ(communication_loss(sums, kGroupTopK).item<double>(), 1.0);
}

}  // namespace
}  // namespace switchyard
