#include <gtest/gtest.h>

#include "core/activation.h"
#include "core/experts.h"
#include "core/feed_forward.h"
#include "core/loss.h"
#include "core/moe_layer.h"
#include "core/norm.h"
#include "core/philox.h"
#include "core/rotary.h"
#include "core/routing/statistics.h"
#include "tests/finite_differences.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

TEST(RmsNorm, DividesByTheRootMeanSquare) {
  RmsNorm norm(2, 0.0);
  // (3, 4): mean square 12.5
  EXPECT_TRUE(at::allclose(norm->forward(at::tensor({3.0, 4.0})), at::tensor({3.0, 4.0}) / std::sqrt(12.5)));
}

TEST(Rotary, TurnsPairsThatStandHalfAHeadApart) {
  const RotaryTable table(4, 4, 100.0);
  const auto x = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).expand({1, 1, 2, 4});
  const auto turned = table.rotate(x)[0][0];
  EXPECT_TRUE(at::equal(turned[0], x[0][0][0]));  // position 0 turns nothing
  const double a = 1.0, b = 1.0 / 10.0;           // angles of pairs 0 and 1 at position 1: theta^0, theta^(-2/4)
  EXPECT_NEAR(turned[1][0].item<double>(), 1.0 * std::cos(a) - 3.0 * std::sin(a), 1e-15);
  EXPECT_NEAR(turned[1][2].item<double>(), 3.0 * std::cos(a) + 1.0 * std::sin(a), 1e-15);
  EXPECT_NEAR(turned[1][1].item<double>(), 2.0 * std::cos(b) - 4.0 * std::sin(b), 1e-15);
}

TEST(Rotary, TurnsEverySequenceAtItsOwnPositions) {
  const RotaryTable table(4, 4, 100.0);
  const auto x = normal({2, 3, 4, 4}, 1);
  const auto turned = table.at_positions(longs({0, 1, 2, 3, 0, 1, 0, 1}).view({2, 4})).rotate(x);
  EXPECT_TRUE(at::equal(turned[0], table.rotate(x)[0]));
  EXPECT_TRUE(at::equal(turned[1].narrow(1, 0, 2), table.rotate(x.narrow(2, 0, 2))[1]));
  EXPECT_TRUE(at::equal(turned[1].narrow(1, 2, 2), table.rotate(x.narrow(2, 2, 2))[1]));
}

TEST(Swiglu, HasTheGradientOfItsFormula) {
  expect_gradient_matches_differences(
      [&](const at::Tensor& x) {
        return (activate(x, Activation::kSwiglu) * normal({3, 4}, 1)).sum();
      },
      normal({3, 8}, 2));
}

/// Rows of 3 experts with counts 2, 0, 17, each padded to 16.
ExpertRows uneven_rows(const at::Tensor& real_19D) {
  auto rows = at::zeros({16 + 32, real_19D.size(1)}, real_19D.options());
  rows = at::cat({real_19D.narrow(0, 0, 2), rows.narrow(0, 0, 14), real_19D.narrow(0, 2, 17), rows.narrow(0, 0, 15)});
  return {rows, {2, 0, 17}};
}

TEST(Experts, EachRowPassesItsOwnExpert) {
  const auto x = normal({19, 4}, 1), gate_up = normal({3, 6, 4}, 2), down = normal({3, 4, 3}, 3);
  const auto y = apply_experts(uneven_rows(x), {gate_up, down}, Activation::kSwiglu);
  const auto dense = [&](const at::Tensor& row, int64_t e) {
    return at::linear(activate(at::linear(row, gate_up[e]), Activation::kSwiglu), down[e]);
  };
  EXPECT_TRUE(at::allclose(y.narrow(0, 0, 2), dense(x.narrow(0, 0, 2), 0), 1e-12, 1e-12));
  EXPECT_TRUE(at::allclose(y.narrow(0, 16, 17), dense(x.narrow(0, 2, 17), 2), 1e-12, 1e-12));
  EXPECT_EQ(y.narrow(0, 2, 14).abs().max().item<double>(), 0.0);
}

TEST(Experts, GradientsMatchDifferences) {
  const auto x = normal({19, 4}, 1), gate_up = normal({3, 6, 4}, 2), down = normal({3, 4, 3}, 3), probe = normal({48, 4}, 4);
  expect_gradient_matches_differences(
      [&](const at::Tensor& v) {
        return (apply_experts(uneven_rows(v), {gate_up, down}, Activation::kSwiglu) * probe).sum();
      },
      x);
  expect_gradient_matches_differences(
      [&](const at::Tensor& v) {
        return (apply_experts(uneven_rows(x), {v, down}, Activation::kSwiglu) * probe).sum();
      },
      gate_up);
  expect_gradient_matches_differences(
      [&](const at::Tensor& v) {
        return (apply_experts(uneven_rows(x), {gate_up, v}, Activation::kSwiglu) * probe).sum();
      },
      down);
}

TEST(Experts, WithoutRowsGradientsAreZeroNotMissing) {
  const auto gate_up = normal({2, 6, 4}, 2).requires_grad_(), down = normal({2, 4, 3}, 3).requires_grad_();
  const auto x = at::zeros({0, 4}, at::kDouble).requires_grad_();
  apply_experts({x, {0, 0}}, {gate_up, down}, Activation::kSwiglu).sum().backward();
  EXPECT_EQ(gate_up.grad().abs().max().item<double>(), 0.0);
  EXPECT_EQ(down.grad().abs().max().item<double>(), 0.0);
}

TEST(Experts, RefuseCountsThatDoNotBelongToTheRows) {
  EXPECT_THROW(apply_experts({at::zeros({16, 4}), {17}}, {at::zeros({1, 6, 4}), at::zeros({1, 4, 3})}, Activation::kSwiglu), c10::Error);
}

TEST(MoeLayer, WithOneExpertEqualsADenseFeedForward) {
  auto config = tiny_config();
  config.moe->num_experts = config.moe->top_k = 1;
  config.moe->renormalize = false;
  MoeLayer layer(config, make_local_dispatcher(1));
  FeedForward dense(config.hidden_size, config.moe->ffn_hidden_size, Activation::kSwiglu);
  for (auto& parameter : layer->parameters()) parameter.set_data(normal(parameter.sizes(), 5));
  const auto experts = layer->experts()->parameters();
  dense->parameters()[0].set_data(experts[0][0].detach());
  dense->parameters()[1].set_data(experts[1][0].detach());
  const auto x = normal({2, 8, 16}, 6);
  EXPECT_TRUE(at::allclose(layer->forward(x, tiny_context(2, 8, 29)).y_BSD, dense->forward(x), 1e-12, 1e-12));
}

TEST(MoeLayer, ATokenThatLosesEveryExpertComesOutAsZero) {
  auto config = tiny_config();
  config.moe->capacity_factor = 0.5;  // 8 tokens, 4 experts, top-2: 2 slots an expert
  MoeLayer layer(config, make_local_dispatcher(4));
  for (auto& parameter : layer->parameters()) parameter.set_data(normal(parameter.sizes(), 5));
  const auto x =
      normal({1, 1, 16}, 6).expand({1, 8, 16});  // equal tokens: all choose the same two experts, the first two positions get them
  const auto output = layer->forward(x.contiguous(), tiny_context(1, 8, 29));
  EXPECT_GT(output.y_BSD[0][1].abs().max().item<double>(), 0.0);
  EXPECT_EQ(output.y_BSD[0].narrow(0, 2, 6).abs().max().item<double>(), 0.0);
  EXPECT_EQ(RoutingSums(output.statistics).lost_tokens().item<double>(), 6.0);
}

TEST(MoeLayer, TheSharedExpertServesEveryTokenAndItsGateScalesIt) {
  auto config = tiny_config();
  config.moe->shared_expert_ffn_hidden_size = 8;
  config.moe->shared_expert_gate = true;
  MoeLayer layer(config, make_local_dispatcher(4));
  for (auto& parameter : layer->parameters()) parameter.set_data(normal(parameter.sizes(), 5));
  const auto x = normal({1, 4, 16}, 6);
  const auto parameters = layer->named_parameters();
  const auto with = layer->forward(x, tiny_context(1, 4, 29)).y_BSD;
  const auto gate = at::linear(x, parameters["shared_expert_gate"]).sigmoid();
  const auto shared =
      at::linear(activate(at::linear(x, parameters["shared_expert.gate_up"]), Activation::kSwiglu), parameters["shared_expert.down"]);
  parameters["shared_expert.down"].set_data(at::zeros({16, 8}, at::kDouble));
  EXPECT_TRUE(at::allclose(with, layer->forward(x, tiny_context(1, 4, 29)).y_BSD + gate * shared, 1e-12, 1e-12));
}

TEST(CrossEntropy, SumsOverUnmaskedTargetsOnly) {
  const auto logits = at::log(matrix({{0.5, 0.25, 0.25}, {0.1, 0.8, 0.1}}));
  const auto mask = at::tensor({1, 0}).to(at::kBool);
  EXPECT_NEAR(cross_entropy_sum(logits, longs({1, 1}), mask).item<double>(), std::log(4.0), 1e-14);
}

TEST(CrossEntropy, HasTheGradientOfItsFormula) {
  const auto mask = at::tensor({1, 0, 1}).to(at::kBool);
  expect_gradient_matches_differences([&](const at::Tensor& x) { return cross_entropy_sum(x, longs({1, 0, 3}), mask); }, normal({3, 5}, 9));
}

/// Sum, and gradients by both, of tokens that fill several chunks.
TEST(LinearCrossEntropy, IsTheCrossEntropyOfTheLogits) {
  constexpr int64_t kTokens = 2500, kVocabulary = 37, kWidth = 5;
  const auto target = at::arange(kTokens).remainder(kVocabulary), mask = at::arange(kTokens).remainder(7).ne(0);
  const auto compute = [&](bool chunked) {
    const auto hidden = normal({kTokens, kWidth}, 3).requires_grad_(true), weight = normal({kVocabulary, kWidth}, 4).requires_grad_(true);
    const auto sum =
        chunked ? linear_cross_entropy_sum(hidden, weight, target, mask) : cross_entropy_sum(at::linear(hidden, weight), target, mask);
    (sum / 11.0).backward();
    return std::vector{sum.detach(), hidden.grad(), weight.grad()};
  };
  const auto ours = compute(true), plain = compute(false);
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::allclose(ours[i], plain[i], 1e-12, 1e-13)) << i;
}

TEST(LinearCrossEntropy, RefusesATargetThatIsNoLogit) {
  const auto mask = at::ones({1}, at::kBool);
  EXPECT_THROW(linear_cross_entropy_sum(normal({1, 2}, 1), normal({3, 2}, 2), longs({3}), mask), c10::Error);
}

TEST(Philox, GivesThePublishedNumbers) {
  // Known answers of the Random123 library: philox4x32-10 with counter and key all zeros, and all ones.
  const auto words = [](int64_t counter, int64_t key) {
    const auto c = at::full({1}, counter, at::kLong);
    std::vector<int64_t> all;
    for (const auto& word : philox({c, c, c, c}, key, key)) all.push_back(word.item<int64_t>());
    return all;
  };
  EXPECT_EQ(words(0, 0), (std::vector<int64_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(0xffffffff, 0xffffffff), (std::vector<int64_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Philox, UniformNumbersLieInTheUnitIntervalAndSpread) {
  const auto u = uniform_by_token(tiny_context(4, 64, 29), 64, 33, RandomPurpose::kRouterInputJitter);
  EXPECT_EQ(u.sizes(), (std::vector<int64_t>{256, 33}));
  EXPECT_GE(u.min().item<double>(), 0.0);
  EXPECT_LT(u.max().item<double>(), 1.0);
  EXPECT_NEAR(u.mean().item<double>(), 0.5, 0.01);
}

}  // namespace
}  // namespace switchyard
