// What the log says about a run's memory and about the time of its gradient sums.
#include "training/run_report.h"

#include <gtest/gtest.h>

#include "tests/layout_run.h"

namespace switchyard {
namespace {

/// Large enough that parts of whole cache lines are even within 5 %.
ModelConfig model_of_some_size() {
  auto config = tiny_config();
  config.hidden_size = 64;
  config.head_dim = 16;
  config.ffn_hidden_size = 96;
  config.vocab_size = 256;
  config.moe->num_experts = 8;
  config.moe->ffn_hidden_size = 32;
  return config;
}

struct Precisions {
  at::ScalarType dtype;
  double whole, shared;  ///< bytes a parameter
};

class Storage : public ::testing::TestWithParam<Precisions> {};

TEST_P(Storage, IsWhatTheFormulaSaysOnEveryRank) {
  const auto [dtype, whole, shared] = GetParam();
  const auto config = model_of_some_size();
  for (const int64_t zero_stage : {0, 1}) {
    run_ranks_as_threads(4, [&, dtype = dtype, whole = whole, shared = shared](const CommunicatorPtr& world) {
      const ParallelConfig parallel{.expert = 2, .zero_stage = zero_stage};
      const ProcessMesh mesh(world, parallel.expert);
      const auto model = build_model(config, parallel, mesh, at::dtype(dtype), /*seed=*/1, /*with_optimizer_state=*/true);
      double dense = 0.0, experts = 0.0;
      for (const auto& slot : model.store->dense().slots) dense += static_cast<double>(slot.numel);
      for (const auto& slot : model.store->experts().slots) experts += static_cast<double>(slot.numel);
      const bool zero = zero_stage == 1;  // dense state is shared by all 4 ranks, that of an expert by 4 / 2
      const double expected = dense * (whole + shared / (zero ? 4 : 1)) + experts * (whole + shared / (zero ? 2 : 1));
      const auto use = storage_use(*model.store);
      EXPECT_NEAR(use.total(), expected, 0.05 * expected);
      EXPECT_NEAR(use.by_formula, expected, 1e-9 * expected);
      EXPECT_LT(use.padding, 0.05 * expected);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Storage,
                         ::testing::Values(Precisions{at::kBFloat16, 6, 12}, Precisions{at::kFloat, 8, 8}, Precisions{at::kDouble, 16, 16}),
                         [](const auto& info) { return std::string(c10::toString(info.param.dtype)); });

TEST(Storage, CountsAllocatedBytesAndPaddingApart) {
  // bf16: 32 elements in 64 bytes; 40 parameters take 64 places: 24 gaps of 2 + 4 + 12 bytes.
  ParameterStore store({{.name = "a", .tensor = at::zeros({40}), .decays = true}}, at::kBFloat16, at::kCPU, true);
  const auto use = storage_use(store);
  EXPECT_EQ(use.weights, 40 * 2);
  EXPECT_EQ(use.gradients, 40 * 4);
  EXPECT_EQ(use.state, 40 * 12);
  EXPECT_EQ(use.padding, 24 * 18);
}

TEST(Storage, IsLoggedByRank) {
  run_ranks_as_threads(2, [](const CommunicatorPtr& world) {
    const ProcessMesh mesh(world, /*expert_degree=*/2);
    const ParallelConfig parallel{.expert = 2, .zero_stage = 1};
    const auto model = build_model(tiny_config(), parallel, mesh, at::dtype(at::kFloat), /*seed=*/1, /*with_optimizer_state=*/true);
    const auto text = describe_storage(*model.store, mesh);
    EXPECT_TRUE(text.starts_with("storage for training, 8 + 8/D bytes a parameter, D = 2 for dense parameters and 1 for experts\n"))
        << text;
    EXPECT_NE(text.find("\n  rank 0: "), std::string::npos) << text;
    EXPECT_NE(text.find("\n  rank 1: "), std::string::npos) << text;
  });
}

TEST(GradientSyncReport, ComparesOverlapWithStepsWithoutIt) {
  run_ranks_as_threads(2, [](const CommunicatorPtr& world) {
    const ProcessMesh mesh(world, /*expert_degree=*/1);
    const ParallelConfig parallel{.overlap_gradient_sync = true};
    auto model = build_model(tiny_config(), parallel, mesh, at::dtype(at::kFloat), /*seed=*/1, /*with_optimizer_state=*/true);
    auto& sync = *model.gradient_sync;
    const auto report = [&] { return describe_gradient_sync(sync, /*overlap=*/true, at::kCPU); };
    TrainingStep training_step(model, mesh, /*seed=*/1);
    const LayoutCase job;
    for (int64_t step = 1; step <= 2; ++step) training_step.run({made_up_batch(job, step, 4 * world->rank(), 4)}, step);
    EXPECT_NE(report().find("too few steps"), std::string::npos) << report();
    for (int64_t step = 3; step <= 40; ++step) training_step.run({made_up_batch(job, step, 4 * world->rank(), 4)}, step);
    EXPECT_EQ(sync.plain_times().steps, 3);  // steps 2, 18 and 34; the first one counts for neither
    EXPECT_EQ(sync.overlapped_times().steps, 36);
    EXPECT_NE(report().find("hidden: "), std::string::npos) << report();
  });
}

}  // namespace
}  // namespace switchyard
