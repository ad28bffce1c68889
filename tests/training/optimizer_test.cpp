#include "training/optimizer.h"

#include <gtest/gtest.h>

#include "tests/tiny_models.h"
#include "training/schedule.h"

namespace switchyard {
namespace {

TEST(AdamW, FollowsThePaperAndDecaysMatricesOnly) {
  const auto matrix = at::full({2, 2}, 2.0), norm = at::full({3}, 2.0);
  ParameterStore store({{.name = "matrix", .tensor = matrix, .decays = true}, {.name = "norm.weight", .tensor = norm, .decays = false}},
                       at::kDouble, at::kCPU, true);
  OptimizerConfig config;
  config.weight_decay = 0.5;
  double m = 0.0, v = 0.0, decayed = 2.0, plain = 2.0;
  for (int64_t step = 1; step <= 3; ++step) {
    const double g = 0.3 * static_cast<double>(step), lr = 0.01;
    store.dense().gradients.fill_(2.0 * g);
    adamw_step(store, config, lr, step, /*gradient_scale=*/0.5);
    m = config.beta1 * m + (1 - config.beta1) * g;
    v = config.beta2 * v + (1 - config.beta2) * g * g;
    const double update = lr * (m / (1 - std::pow(config.beta1, step))) / (std::sqrt(v / (1 - std::pow(config.beta2, step))) + config.eps);
    decayed = decayed - lr * config.weight_decay * decayed - update;
    plain -= update;
  }
  EXPECT_NEAR(matrix[0][0].item<double>(), decayed, 1e-12);
  EXPECT_NEAR(norm[0].item<double>(), plain, 1e-12);
}

TEST(AdamW, KeepsAnFp32MasterUnderBf16Weights) {
  const auto matrix = at::full({64}, 1.0).view({8, 8});
  ParameterStore store({{.name = "matrix", .tensor = matrix, .decays = true}}, at::kBFloat16, at::kCPU, true);
  OptimizerConfig config;
  config.weight_decay = 0.0;
  for (int64_t step = 1; step <= 10; ++step) {  // each update is far below bf16's spacing of 2^-8 near 1
    store.dense().gradients.fill_(1.0);
    adamw_step(store, config, 5e-4, step, 1.0);
  }
  EXPECT_EQ(matrix.scalar_type(), at::kBFloat16);
  EXPECT_NEAR(store.dense().master[0].item<double>(), 1.0 - 10 * 5e-4, 1e-5);
  EXPECT_NEAR(matrix[0][0].item<double>(), 0.995, 0.003);
}

TEST(Schedule, WarmsUpLinearlyThenFollowsItsCurve) {
  ScheduleConfig schedule;
  schedule.kind = ScheduleKind::kCosine;
  schedule.warmup_steps = 10;
  schedule.min_ratio = 0.1;
  const auto at_step = [&](int64_t step) { return learning_rate(schedule, 2.0, step, 110, static_cast<double>(step) / 110.0); };
  EXPECT_DOUBLE_EQ(at_step(1), 0.2);
  EXPECT_DOUBLE_EQ(at_step(10), 2.0);
  EXPECT_NEAR(at_step(60), 2.0 * 0.55, 1e-12);  // half of the decay done
  EXPECT_NEAR(at_step(110), 0.2, 1e-12);
}

TEST(Schedule, LinearWsdAndConstantEndWhereTheyShould) {
  ScheduleConfig schedule;
  schedule.min_ratio = 0.0;
  const auto at_progress = [&](double progress) { return learning_rate(schedule, 1.0, 50, 100, progress); };
  schedule.kind = ScheduleKind::kLinear;
  EXPECT_NEAR(at_progress(0.25), 0.75, 1e-12);
  schedule.kind = ScheduleKind::kWsd;
  schedule.decay_fraction = 0.2;
  EXPECT_NEAR(at_progress(0.79), 1.0, 1e-12);
  EXPECT_NEAR(at_progress(0.9), 0.5, 1e-12);
  EXPECT_NEAR(at_progress(1.0), 0.0, 1e-12);
  schedule.kind = ScheduleKind::kConstant;
  EXPECT_NEAR(at_progress(1.0), 1.0, 1e-12);
}

}  // namespace
}  // namespace switchyard
