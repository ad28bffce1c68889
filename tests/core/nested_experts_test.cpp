// Experts that are MoE layers of their own, against a loop over rows, inner experts and nothing else.
#include "core/nested_experts.h"

#include <gtest/gtest.h>

#include "core/activation.h"
#include "core/balance.h"
#include "tests/finite_differences.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

constexpr int64_t kInside = 3, kOuter = 2, kWidth = 5, kHidden = 4;

MoeConfig nested_config(int64_t top_k) {
  MoeConfig config;
  config.num_experts = kOuter;
  config.nested_experts = kInside;
  config.nested_top_k = top_k;
  config.ffn_hidden_size = kWidth;
  config.activation = Activation::kRelu;
  return config;
}

ExpertWeights some_weights() {
  const int64_t M = kOuter * kInside;
  return {
      .up_eWD = normal({M, kWidth, kHidden}, 1), .down_eDF = normal({M, kHidden, kWidth}, 2), .nested_router_MD = normal({M, kHidden}, 3)};
}

/// 3 rows of the first outer expert, 2 of the second, padded.
ExpertRows five_rows(const at::Tensor& real_5D) {
  const auto padding = at::full({16, kHidden}, 0.5, real_5D.options());
  return {at::cat({real_5D.narrow(0, 0, 3), padding.narrow(0, 0, 13), real_5D.narrow(0, 3, 2), padding.narrow(0, 0, 14)}), {3, 2}};
}

NestedOutput apply(const at::Tensor& real_5D, const ExpertWeights& weights, int64_t top_k) {
  return apply_nested_experts(five_rows(real_5D), weights, nested_config(top_k), [](const ExpertRows&) { return at::Tensor(); });
}

at::Tensor one_row(const at::Tensor& x_D, int64_t outer, const ExpertWeights& weights, int64_t top_k) {
  const auto p = at::mv(weights.nested_router_MD.narrow(0, outer * kInside, kInside), x_D).softmax(0);
  const auto [best, places] = p.topk(top_k);
  auto y = at::zeros_like(x_D);
  for (int64_t k = 0; k < top_k; ++k) {
    const int64_t m = outer * kInside + places[k].item<int64_t>();
    const auto weight = top_k > 1 ? best[k] / best.sum() : best[k];
    y = y + weight * at::mv(weights.down_eDF[m], at::mv(weights.up_eWD[m], x_D).relu());
  }
  return y;
}

class NestedExperts : public ::testing::TestWithParam<int64_t> {};

TEST_P(NestedExperts, EqualTheFormulaRowByRow) {
  const auto x = normal({5, kHidden}, 4);
  const auto weights = some_weights();
  const auto output = apply(x, weights, GetParam());
  for (int64_t row = 0; row < 5; ++row) {
    const int64_t outer = row < 3 ? 0 : 1, place = row < 3 ? row : 13 + row;
    EXPECT_TRUE(at::allclose(output.y_RD[place], one_row(x[row], outer, weights, GetParam()), 1e-12, 1e-12)) << row;
  }
  EXPECT_EQ(output.y_RD.narrow(0, 3, 13).abs().max().item<double>(), 0.0);
}

TEST_P(NestedExperts, CountRealRowsOnly) {
  const auto output = apply(normal({5, kHidden}, 4), some_weights(), GetParam());
  const auto k = static_cast<double>(GetParam());
  expect_equal(output.assigned_M.view({kOuter, kInside}).sum(1), at::tensor({3.0 * k, 2.0 * k}, at::kDouble));
  EXPECT_TRUE(at::allclose(output.probability_M.view({kOuter, kInside}).sum(1), at::tensor({3.0, 2.0}, at::kDouble), 1e-12, 1e-12));
}

TEST_P(NestedExperts, HaveTheGradientsOfTheFormula) {
  const auto x = normal({5, kHidden}, 4), probe = normal({32, kHidden}, 5), probe_M = normal({kOuter * kInside}, 6);
  const auto value = [&](const at::Tensor& rows, const ExpertWeights& weights) {
    const auto output = apply(rows, weights, GetParam());
    return (output.y_RD * probe).sum() + (output.probability_M * probe_M).sum();
  };
  expect_gradient_matches_differences([&](const at::Tensor& v) { return value(v, some_weights()); }, x);
  for (auto field : {&ExpertWeights::up_eWD, &ExpertWeights::down_eDF, &ExpertWeights::nested_router_MD}) {
    expect_gradient_matches_differences(
        [&](const at::Tensor& v) {
          auto weights = some_weights();
          weights.*field = v;
          return value(x, weights);
        },
        some_weights().*field);
  }
}

INSTANTIATE_TEST_SUITE_P(TopK, NestedExperts, ::testing::Values(1, 2, kInside));

TEST(NestedLayer, SendsEveryRowOfAnExpertToExpertsInsideIt) {
  auto config = tiny_config();
  config.moe->nested_experts = 2;
  MoeLayer layer(config, make_local_dispatcher(4));
  for (auto& parameter : layer->parameters()) parameter.set_data(normal(parameter.sizes(), 5));
  const RoutingSums sums(layer->forward(normal({2, 8, 16}, 6), tiny_context(2, 8, 29)).statistics);
  expect_equal(sums.nested_assigned_M().view({4, 2}).sum(1), sums.assigned_E());
}

TEST(NestedBalanceLoss, IsOneAtBalanceAndTheNumberInsideAtCollapse) {
  const SumsShape shape{.num_experts = 2, .num_groups = 1, .num_nested = 4};
  RoutingSums sums(at::zeros({RoutingSums::size(shape)}, at::kDouble), shape);
  const auto value = [&](const std::vector<double>& assigned, const std::vector<double>& probability) {
    sums.nested_assigned_M().copy_(at::tensor(assigned, at::kDouble));
    sums.nested_probability_M().copy_(at::tensor(probability, at::kDouble));
    return nested_balance_loss(sums, 2, 1).item<double>();
  };
  EXPECT_DOUBLE_EQ(value({3, 3, 1, 1}, {3, 3, 1, 1}), 1.0);
  EXPECT_DOUBLE_EQ(value({6, 0, 0, 2}, {6, 0, 0, 2}), 2.0);
  EXPECT_DOUBLE_EQ(value({6, 0, 1, 1}, {6, 0, 1, 1}), 0.75 * 2.0 + 0.25 * 1.0);  // weighed by rows
  EXPECT_DOUBLE_EQ(value({0, 0, 0, 0}, {0, 0, 0, 0}), 0.0);
}

TEST(NestedConfig, RefusesWhatHasNothingToChoose) {
  auto config = tiny_config();
  const auto key_of_the_fault = [&] {
    const auto faults = find_faults(config);
    return faults.size() == 1 ? faults.front().key : std::to_string(faults.size()) + " faults";
  };
  config.moe->nested_experts = 1;
  EXPECT_EQ(key_of_the_fault(), "model.moe.nested_experts");
  config.moe->nested_experts = 2;
  config.moe->nested_top_k = 3;
  EXPECT_EQ(key_of_the_fault(), "model.moe.nested_top_k");
  config.moe->nested_experts = 0;
  config.moe->nested_top_k = 1;
  config.moe->nested_loss_coeff = 0.1;
  EXPECT_EQ(key_of_the_fault(), "model.moe.nested_loss_coeff");
}

TEST(ExpertsByLayer, ChangeThatLayerOnlyAndAreCounted) {
  auto config = tiny_config();
  config.moe->num_experts_by_layer = {{1, 6}};
  const auto model = tiny_model(config);
  EXPECT_EQ(model->moe_layers()[0]->router()->parameters()[0].size(0), 4);
  EXPECT_EQ(model->moe_layers()[1]->router()->parameters()[0].size(0), 6);
  int64_t numel = 0;
  for (const auto& parameter : model->parameters()) numel += parameter.numel();
  EXPECT_EQ(count_parameters(config).total, numel);
}

TEST(ExpertsByLayer, RefusesABlockWithoutExpertsAndANumberThatBreaksARule) {
  auto config = tiny_config();
  config.moe->layers = {.kind = LayerSet::Kind::kEvery, .count = 2, .list = {}};
  config.moe->num_experts_by_layer = {{0, 6}};
  ASSERT_EQ(find_faults(config).size(), 1u);
  EXPECT_EQ(find_faults(config).front().problem, "names block 0, which is no MoE layer; name blocks of model.moe.layers");
  config.moe->num_experts_by_layer = {{1, 1}};
  ASSERT_EQ(find_faults(config).size(), 1u);
  EXPECT_EQ(find_faults(config).front().problem,
            "gives block 1 1 experts: model.moe.top_k is larger than model.moe.num_experts = 1; use at most 1");
}

}  // namespace
}  // namespace switchyard
