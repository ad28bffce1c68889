// The configurations of configs/small: each is good, and its model computes and learns from a few tokens.
#include <filesystem>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/layout_run.h"
#include "training/generation.h"
#include "training/run_config.h"

namespace switchyard {
namespace {

std::vector<std::string> presets() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(SWITCHYARD_SOURCE_DIR "/configs/small"))
    paths.push_back(entry.path().string());
  std::ranges::sort(paths);
  return paths;
}

class SmallPreset : public ::testing::TestWithParam<std::string> {
 protected:
  /// The preset's model over fewer, shorter sequences.
  static LayoutCase job() {
    LayoutCase job;
    job.model = load_run_config(GetParam(), {}, /*world_size=*/1).model;
    job.model.max_sequence_length = 12;
    job.dtype = at::kFloat;
    job.steps = 6;
    // The same tokens in every step.
    job.tokens_NGS = at::arange(8 * 13, at::kLong).square().remainder(61).view({1, 8, 13}).expand({job.steps, 8, 13}).contiguous();
    job.mask_GS = at::ones({8, 12}, at::kBool);
    if (job.model.moe && job.model.moe->capacity_group.sequences > 1) job.micro_batch_size = job.global_batch_size;
    return job;
  }
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

INSTANTIATE_TEST_SUITE_P(Configs, SmallPreset, ::testing::ValuesIn(presets()),
                         [](const auto& info) { return std::filesystem::path(info.param).stem().string(); });

}  // namespace
}  // namespace switchyard
