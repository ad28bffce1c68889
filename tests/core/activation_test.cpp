// What stands between the two matrices of a feed-forward, and experts of every kind.
#include "core/activation.h"

#include <gtest/gtest.h>

#include "core/experts.h"
#include "tests/finite_differences.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

const std::vector<Activation> kAll = {Activation::kSwiglu, Activation::kGeglu, Activation::kClampedSwiglu, Activation::kGelu,
                                      Activation::kRelu};

/// By the book, from autograd's own parts.
at::Tensor expected(const at::Tensor& up, Activation kind) {
  const auto parts = up.chunk(2, -1);
  switch (kind) {
    case Activation::kSwiglu:
      return parts[0] * parts[0].sigmoid() * parts[1];
    case Activation::kGeglu:
      return parts[0] * 0.5 * (1.0 + (parts[0] / std::sqrt(2.0)).erf()) * parts[1];
    case Activation::kClampedSwiglu: {
      const auto gate = parts[0].clamp_max(7.0);
      return gate * (1.702 * gate).sigmoid() * (parts[1].clamp(-7.0, 7.0) + 1.0);
    }
    case Activation::kGelu:
      return up * 0.5 * (1.0 + (up / std::sqrt(2.0)).erf());
    case Activation::kRelu:
      return up.clamp_min(0.0);
  }
  return {};
}

class EveryActivation : public ::testing::TestWithParam<Activation> {};

TEST_P(EveryActivation, IsItsFormulaAndHasItsGradient) {
  const auto up = 5.0 * normal({6, 8}, 1);  // some beyond the clamps
  EXPECT_TRUE(at::allclose(activate(up, GetParam()), expected(up, GetParam()), 1e-12, 1e-15));
  const auto probe = normal({6, up.size(1) / (is_gated(GetParam()) ? 2 : 1)}, 2);
  expect_gradient_matches_differences([&](const at::Tensor& x) { return (activate(x, GetParam()) * probe).sum(); }, up);
}

/// 3 experts of width 5 in 4 dimensions over 19 rows, one expert without any.
struct Case {
  explicit Case(Activation kind) : W(up_width(kind, 5)) {
    counts = {7, 0, 12};
    x = at::zeros({32, 4}, at::kDouble);
    x.narrow(0, 0, 7).copy_(normal({7, 4}, 1));
    x.narrow(0, 16, 12).copy_(normal({12, 4}, 2));
    real = x.abs().sum(1, /*keepdim=*/true) > 0;
    weights = {normal({3, W, 4}, 3), normal({3, 4, 5}, 4), normal({3, W}, 5), normal({3, 4}, 6)};
    dropout = (normal({32, 5}, 7) > 0).to(at::kDouble) * 2.0;
    probe = normal({32, 4}, 8) * real;
  }

  int64_t W;
  std::vector<int64_t> counts;
  at::Tensor x, real, dropout, probe;
  ExpertWeights weights;
};

TEST_P(EveryActivation, ExpertsWithBiasesAndDropoutAreFeedForwardsOfTheirOwn) {
  const Case c(GetParam());
  const auto y = apply_experts({c.x, c.counts}, c.weights, GetParam(), c.dropout);
  for (const int64_t r : {0, 6, 16, 27}) {
    const int64_t e = r < 16 ? 0 : 2;
    const auto up = at::linear(c.x[r], c.weights.up_eWD[e], c.weights.up_bias_eW[e]);
    const auto row = at::linear(expected(up, GetParam()) * c.dropout[r], c.weights.down_eDF[e], c.weights.down_bias_eD[e]);
    EXPECT_TRUE(at::allclose(y[r], row, 1e-12, 1e-13)) << "row " << r;
  }
}

TEST_P(EveryActivation, ExpertsHaveTheGradientsOfEveryWeight) {
  const Case c(GetParam());
  const auto loss_of = [&](const at::Tensor& x, const ExpertWeights& weights) {
    return (apply_experts({x, c.counts}, weights, GetParam(), c.dropout) * c.probe).sum();
  };
  const auto check = [&](at::Tensor ExpertWeights::*field) {
    const auto scalar = [&](const at::Tensor& value) {
      auto weights = c.weights;
      weights.*field = value;
      return loss_of(c.x, weights);
    };
    expect_gradient_matches_differences(scalar, c.weights.*field);
  };
  expect_gradient_matches_differences([&](const at::Tensor& x) { return loss_of(x * c.real, c.weights); }, c.x);
  check(&ExpertWeights::up_eWD);
  check(&ExpertWeights::down_eDF);
  check(&ExpertWeights::up_bias_eW);
  check(&ExpertWeights::down_bias_eD);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryActivation, ::testing::ValuesIn(kAll),
                         [](const auto& info) { return "Kind" + std::to_string(static_cast<int>(info.param)); });

}  // namespace
}  // namespace switchyard
