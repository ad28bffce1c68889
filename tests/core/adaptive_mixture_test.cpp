#include "core/adaptive_mixture.h"

#include <gtest/gtest.h>

#include "tests/finite_differences.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

MixtureOutput some_output() {
  return {normal({3, 2}, 1).log_softmax(1), normal({3, 2, 2}, 2)};
}

TEST(MixtureLosses, AreTheirFormulaeCaseByCase) {
  const auto output = some_output();
  const auto target = normal({3, 2}, 3);
  constexpr double kSigma = 0.7;
  double competitive = 0.0, cooperative = 0.0;
  for (int64_t t = 0; t < 3; ++t) {
    double likelihood = 0.0;
    auto blend = at::zeros({2}, at::kDouble);
    for (int64_t i = 0; i < 2; ++i) {
      const double p = std::exp(output.log_gate_TE[t][i].item<double>());
      const double error = (target[t] - output.output_TEO[t][i]).square().sum().item<double>();
      likelihood += p * std::exp(-error / (2.0 * kSigma * kSigma));
      blend += p * output.output_TEO[t][i];
    }
    competitive -= std::log(likelihood) / 3.0;
    cooperative += (target[t] - blend).square().sum().item<double>() / (2.0 * kSigma * kSigma) / 3.0;
  }
  EXPECT_NEAR(competitive_mixture_loss(output, target, kSigma).item<double>(), competitive, 1e-12);
  EXPECT_NEAR(cooperative_mixture_loss(output, target, kSigma).item<double>(), cooperative, 1e-12);
}

TEST(MixtureLosses, HaveTheGradientsOfTheirFormulae) {
  const auto target = normal({3, 2}, 3);
  for (const auto loss : {competitive_mixture_loss, cooperative_mixture_loss}) {
    expect_gradient_matches_differences(
        [&](const at::Tensor& v) {
          return loss({some_output().log_gate_TE, v}, target, 0.7);
        },
        normal({3, 2, 2}, 2));
    expect_gradient_matches_differences(
        [&](const at::Tensor& v) {
          return loss({v.log_softmax(1), some_output().output_TEO}, target, 0.7);
        },
        normal({3, 2}, 1));
  }
}

TEST(AdaptiveMixture, AppliesEveryExpertToEveryCase) {
  AdaptiveMixture mixture(3, 2, 4, /*seed=*/1);
  const auto x = normal({5, 2}, 2);
  const auto output = mixture->forward(x);
  const auto named = mixture->named_parameters();
  for (int64_t e = 0; e < 3; ++e) {
    const auto alone = at::linear(x, named["experts"][e], named["experts_bias"][e]);
    EXPECT_TRUE(at::allclose(output.output_TEO.select(1, e), alone, 1e-12, 1e-12));
  }
  EXPECT_TRUE(at::allclose(output.log_gate_TE.exp().sum(1), at::ones({5}, at::kDouble)));
}

}  // namespace
}  // namespace switchyard
