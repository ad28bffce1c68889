// Attention of every kind against slow references, and step by step against the whole sequence. fp64.
#include <gtest/gtest.h>

#include <numbers>

#include "core/attention_plan.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

/// One query, all keys that it may see, in the plainest words.
at::Tensor attended(const at::Tensor& query_d, const std::vector<at::Tensor>& keys, const std::vector<at::Tensor>& values, double scale,
                    std::optional<double> sink) {
  std::vector<double> exponentials;
  double sum = sink ? std::exp(*sink) : 0.0;
  for (const auto& key : keys) {
    exponentials.push_back(std::exp(scale * query_d.dot(key).item<double>()));
    sum += exponentials.back();
  }
  auto mixed = at::zeros_like(values[0]);
  for (size_t i = 0; i < values.size(); ++i) mixed += values[i] * (exponentials[i] / sum);
  return mixed;
}

struct Sight {
  const char* name;
  int64_t window, chunk;
  bool sinks;
};

class AttendBySight : public ::testing::TestWithParam<Sight> {};

TEST_P(AttendBySight, IsTheSoftmaxOverWhatATokenSees) {
  const auto& sight = GetParam();
  const int64_t B = 2, H = 4, K = 2, S = 7, d = 6, v = 3;
  const auto query = normal({B, H, S, d}, 1), key = normal({B, K, S, d}, 2), value = normal({B, K, S, v}, 3), sink_H = normal({H}, 4);
  AttentionConfig config;
  config.window = sight.window;
  config.chunk = sight.chunk;
  const RotaryTable rotary(S, d, 100.0);
  const auto plan = plan_attention(rotary, config, tiny_context(B, S, 29, false), at::kDouble);
  const auto mixed = attend(query, key, value, plan.limited_mask, 0.3, sight.sinks ? sink_H : at::Tensor());
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t s = 0; s < S; ++s) {
        std::vector<at::Tensor> keys, values;
        for (int64_t p = 0; p <= s; ++p) {
          if (sight.window > 0 && p <= s - sight.window) continue;
          if (sight.chunk > 0 && p / sight.chunk != s / sight.chunk) continue;
          keys.push_back(key[b][h / 2][p]);
          values.push_back(value[b][h / 2][p]);
        }
        const auto sink = sight.sinks ? std::optional(sink_H[h].item<double>()) : std::nullopt;
        EXPECT_LT((mixed[b][h][s] - attended(query[b][h][s], keys, values, 0.3, sink)).abs().max().item<double>(), 1e-12);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sights, AttendBySight,
                         ::testing::Values(Sight{"full", 0, 0, false}, Sight{"window", 3, 0, false}, Sight{"chunk", 0, 3, false},
                                           Sight{"sinks", 0, 0, true}, Sight{"window_and_sinks", 2, 0, true}),
                         [](const auto& info) { return info.param.name; });

TEST(Rotary, InterleavedPairsAreNeighbours) {
  const RotaryTable table(4, 4, 100.0, {.interleaved = true});
  const auto x = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).expand({1, 1, 2, 4});
  const auto turned = table.rotate(x)[0][0][1];
  EXPECT_NEAR(turned[0].item<double>(), std::cos(1.0) - 2.0 * std::sin(1.0), 1e-15);
  EXPECT_NEAR(turned[1].item<double>(), 2.0 * std::cos(1.0) + std::sin(1.0), 1e-15);
  EXPECT_NEAR(turned[3].item<double>(), 4.0 * std::cos(0.1) + 3.0 * std::sin(0.1), 1e-15);
}

TEST(Rotary, LeavesTheRestOfAPartlyTurnedHead) {
  const RotaryTable table(4, 2, 100.0);
  const auto x = normal({1, 1, 4, 6}, 1), turned = table.rotate(x);
  EXPECT_TRUE(at::equal(turned.narrow(3, 2, 4), x.narrow(3, 2, 4)));
  EXPECT_TRUE(at::allclose(turned.narrow(3, 0, 2), table.rotate(x.narrow(3, 0, 2))));
  EXPECT_FALSE(at::allclose(turned[0][0][1].narrow(0, 0, 2), x[0][0][1].narrow(0, 0, 2)));
}

/// Frequencies by the published formulas, pair by pair.
TEST(RopeScaling, StretchesByTheFormulaOfItsKind) {
  const int64_t d = 8;
  const double theta = 1e4, factor = 4.0, length = 64.0;
  for (int64_t i = 0; i < d / 2; ++i) {
    const double plain = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(d));
    const auto frequency = [&](const RopeConfig& config) { return rotary_frequencies(d, theta, config)[i].item<double>(); };
    EXPECT_DOUBLE_EQ(frequency({}), plain);
    EXPECT_DOUBLE_EQ(frequency({.scaling = RopeScaling::kLinear, .factor = factor}), plain / factor);
    const double turns = length * plain / (2.0 * std::numbers::pi);
    const double kept = std::clamp((turns - 1.0) / 3.0, 0.0, 1.0);
    EXPECT_NEAR(frequency({.scaling = RopeScaling::kLlama3, .factor = factor, .original_length = 64}),
                plain * kept + plain / factor * (1.0 - kept), 1e-15);
    const auto pair_of = [&](double n) { return 8.0 * std::log(length / (n * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta)); };
    const double low = std::max(std::floor(pair_of(32.0)), 0.0), high = std::min(std::ceil(pair_of(1.0)), 7.0);
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    EXPECT_NEAR(frequency({.scaling = RopeScaling::kYarn, .factor = factor, .original_length = 64}),
                plain * (1.0 - ramp) + plain / factor * ramp, 1e-15);
  }
}

TEST(RopeScaling, IsAStepWhereBothBoundsAreOne) {
  // Llama 4 Scout. Over 64 positions pair 0 turns 10.2 times, pair 1 1.02 times, pairs 2 and 3 less than once.
  RopeConfig llama = {
      .scaling = RopeScaling::kLlama3, .factor = 16.0, .original_length = 64, .low_freq_factor = 1.0, .high_freq_factor = 1.0};
  const auto plain = rotary_frequencies(8, 1e4, {});
  EXPECT_TRUE(at::allclose(plain / rotary_frequencies(8, 1e4, llama), at::tensor({1.0, 1.0, 16.0, 16.0}, at::kDouble)));
  llama.low_freq_factor = llama.high_freq_factor = 64.0 / (2.0 * std::numbers::pi);  // just what pair 0 turns
  EXPECT_TRUE(at::allclose(plain / rotary_frequencies(8, 1e4, llama), at::full({4}, 16.0, at::kDouble)));
  // Kimi K2. Pair 64 ln(4096 / 2 pi) / (2 ln 50000) = 19.2 turns once over 4096 positions.
  const RopeConfig yarn = {.scaling = RopeScaling::kYarn, .factor = 32.0, .original_length = 4096, .beta_fast = 1.0, .beta_slow = 1.0};
  const auto stretch_p = rotary_frequencies(64, 5e4, {}) / rotary_frequencies(64, 5e4, yarn);
  EXPECT_TRUE(at::allclose(stretch_p, at::cat({at::ones({20}, at::kDouble), at::full({12}, 32.0, at::kDouble)})));
}

TEST(RopeScaling, YarnMultipliesCosinesAndLatentScores) {
  RopeConfig rope = {.scaling = RopeScaling::kYarn, .factor = 32.0, .original_length = 4096};
  EXPECT_NEAR(rotary_attention_factor(rope), 1.34657, 1e-5);  // gpt-oss
  EXPECT_EQ(latent_score_factor(rope), 1.0);
  rope.mscale = rope.mscale_all_dim = 1.0;
  EXPECT_EQ(rotary_attention_factor(rope), 1.0);
  EXPECT_NEAR(latent_score_factor(rope), 1.34657 * 1.34657, 1e-4);
  rope.attention_factor = 2.0;
  EXPECT_EQ(rotary_attention_factor(rope), 2.0);
  const RotaryTable table(4, 4, 100.0, rope);
  const auto x = normal({1, 1, 1, 4}, 1);
  EXPECT_TRUE(at::allclose(table.rotate(x), 2.0 * x));  // position 0 turns nothing
}

}  // namespace
}  // namespace switchyard
