// The configurations of configs/small: each is good, and its model computes and learns from a few tokens.
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/small_presets.h"
#include "training/generation.h"

namespace switchyard {
namespace {

class SmallPreset : public ::testing::TestWithParam<std::string> {
 protected:
  static LayoutCase job() { return preset_job(GetParam(), at::kFloat); }
};

TEST_P(SmallPreset, LearnsTheTokensThatItSees) {
  const auto run = train_here(job(), make_single_communicator());
  for (const auto& step : run.steps) {
    EXPECT_TRUE(std::isfinite(step.loss));
    EXPECT_GT(step.grad_norm, 0.0);
  }
  EXPECT_LT(run.steps.back().cross_entropy, run.steps.front().cross_entropy);
}

TEST_P(SmallPreset, GeneratesUnlessItLooksAhead) {
  const auto model_config = job().model;
  const ProcessMesh mesh(make_single_communicator(), 1);
  auto model = build_model(model_config, {}, mesh, at::dtype(at::kFloat), /*seed=*/1, /*with_optimizer_state=*/false);
  SamplingOptions options;
  options.max_tokens = 3;
  const bool looks_ahead = model_config.moe && routing_rules().at(model_config.moe->router).looks_ahead;
  if (looks_ahead) {
    EXPECT_THROW(generate(model, {1, 2, 3}, options), UserError);
  } else {
    EXPECT_GE(generate(model, {1, 2, 3}, options).size(), 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, SmallPreset, ::testing::ValuesIn(small_presets()),
                         [](const auto& info) { return preset_name(info.param); });

}  // namespace
}  // namespace switchyard
