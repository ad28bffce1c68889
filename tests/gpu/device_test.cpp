// What a GPU computes, against the CPU, in float64: what differs there beyond rounding is not the same mathematics.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/routing/routing_rule.h"
#include "tests/core/attention_kinds.h"
#include "tests/gpu/gpu.h"
#include "tests/small_presets.h"
#include "training/generation.h"

namespace switchyard {
namespace {

constexpr double kRounding = 1e-9;

LayoutTrace train_on(const at::Device& device, LayoutCase job) {
  job.device = device;
  return train_here(job, make_single_communicator());
}

void expect_same_on_gpu(const LayoutCase& job) {
  const auto on_cpu = train_on(at::kCPU, job), on_gpu = train_on(kGpu, job);
  EXPECT_LT(largest_difference(on_cpu, on_gpu, on_cpu.steps.size()), kRounding);
  EXPECT_LT(largest_tensor_difference(on_cpu, on_gpu, job), kRounding);
}

class PresetOnGpu : public ::testing::TestWithParam<std::string> {};

/// Where choices are equal by mathematics, rounding decides, and the runs part: noisy gates start without preferences, and expert choice
/// ranks tokens that may have equal histories.
bool meets_ties(const ModelConfig& model) {
  return model.moe && (routing_rules().at(model.moe->router).maps.noise || model.moe->router == "expert_choice");
}

TEST_P(PresetOnGpu, TrainsAsOnTheCpu) {
  const auto job = preset_job(GetParam(), at::kDouble);
  if (meets_ties(job.model)) GTEST_SKIP() << "equal choices fall either way";
  expect_same_on_gpu(job);
}

TEST_P(PresetOnGpu, LearnsInBfloat16) {
  const auto run = train_on(kGpu, preset_job(GetParam(), at::kBFloat16));
  for (const auto& step : run.steps) EXPECT_TRUE(std::isfinite(step.loss));
  EXPECT_LT(run.steps.back().cross_entropy, run.steps.front().cross_entropy);
}

INSTANTIATE_TEST_SUITE_P(Configs, PresetOnGpu, ::testing::ValuesIn(small_presets()),
                         [](const auto& info) { return preset_name(info.param); });

class AttentionOnGpu : public ::testing::TestWithParam<AttentionKind> {
 protected:
  static LayoutCase job() {
    LayoutCase job;
    job.model = GetParam().config;
    job.documents.reset_attention_mask = true;
    job.end_of_document = 5;
    return job;
  }
};

TEST_P(AttentionOnGpu, TrainsAsOnTheCpu) {
  expect_same_on_gpu(job());
}

/// Where other kernels compute it.
TEST_P(AttentionOnGpu, TrainsInBfloat16) {
  auto narrow = job();
  narrow.dtype = at::kBFloat16;
  const auto wide = train_on(at::kCPU, job()), run = train_on(kGpu, narrow);
  EXPECT_LT(relative(run.steps[0].cross_entropy, wide.steps[0].cross_entropy), 0.02);
  for (const auto& step : run.steps) EXPECT_TRUE(std::isfinite(step.grad_norm));
}

TEST_P(AttentionOnGpu, GeneratesTheSameTokens) {
  SamplingOptions options;
  options.max_tokens = 12;  // beyond the context
  options.temperature = 0.0;
  std::vector<std::vector<int64_t>> tokens;
  for (const auto& device : {at::Device(at::kCPU), kGpu}) {
    const ProcessMesh mesh(make_single_communicator(), 1);
    auto model = build_model(job().model, {}, mesh, at::dtype(at::kDouble).device(device), /*seed=*/1, /*with_optimizer_state=*/false);
    tokens.push_back(generate(model, {1, 2, 3}, options));
  }
  EXPECT_EQ(tokens[0], tokens[1]);
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttentionOnGpu, ::testing::ValuesIn(attention_kinds()), [](const auto& info) { return info.param.name; });

/// A model with what the presets leave out.
LayoutCase rich_job() {
  LayoutCase job;
  job.micro_batch_size = 2;
  job.masked_tail = 3;
  auto& moe = *job.model.moe;
  moe.num_experts = 8;
  moe.shared_expert_ffn_hidden_size = 8;
  moe.shared_expert_gate = true;
  moe.expert_bias = true;
  moe.expert_dropout = 0.1;
  moe.input_jitter = 0.1;
  moe.capacity_factor = 1.0;
  moe.capacity_group.sequences = 1;
  return job;
}

TEST(OnGpu, DropsTheSameAssignmentsInEveryOrder) {
  using enum DropOrder;
  for (const auto order : {kChoicePosition, kChoiceScorePosition, kScorePosition, kRandom}) {
    auto job = rich_job();
    job.model.moe->drop_order = order;
    expect_same_on_gpu(job);
  }
}

TEST(OnGpu, ComputesAgainAndInChunksAsOnTheCpu) {
  for (const auto recompute : {Recompute::kMoe, Recompute::kBlock}) {
    auto job = rich_job();
    job.recompute = recompute;
    job.parallel.dispatch_chunks = 2;
    expect_same_on_gpu(job);
  }
}

TEST(OnGpu, KeepsDocumentsApartAsOnTheCpu) {
  auto job = rich_job();
  job.documents.reset_attention_mask = job.documents.reset_position_ids = true;
  job.end_of_document = 5;
  expect_same_on_gpu(job);
}

TEST(OnGpu, BalancesOverEveryScopeAsOnTheCpu) {
  using enum AuxLossScope;
  for (const auto scope : {kSequence, kMicroBatch, kGlobalBatch, kRunning, kLagged}) {
    auto job = rich_job();
    job.model.moe->aux_loss_scope = scope;
    expect_same_on_gpu(job);
  }
}

}  // namespace
}  // namespace switchyard
