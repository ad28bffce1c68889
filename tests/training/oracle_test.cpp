// The framework against an independent implementation: tests/oracle/oracle.py trained the same models from the same weights and tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>

#include "parallel/gradient_sync.h"
#include "tests/tiny_models.h"
#include "training/optimizer.h"
#include "training/safetensors.h"
#include "training/training_step.h"

namespace switchyard {
namespace {

constexpr int64_t kSteps = 10;

struct Tolerance {
  double scalar;  ///< |a - b| / |b| of losses, terms and norms
  double tensor;  ///< ||a - b|| / ||b|| of gradients and weights
};

/// The golden scalars are float64, the golden tensors float32: 2^-24 away from what the oracle computed.
Tolerance tolerance_of(at::ScalarType dtype) {
  return dtype == at::kDouble ? Tolerance{1e-9, 1e-7} : Tolerance{1e-5, 1e-5};
}

ModelConfig model_of(const std::string& variant) {
  auto config = tiny_config(/*moe=*/variant != "dense");
  config.rope_theta = 10000.0;
  config.norm_eps = 1e-5;
  if (!config.moe) return config;
  config.moe->aux_loss_coeff = 0.01;
  config.moe->z_loss_coeff = 0.001;
  if (variant == "moe_capacity") {
    config.moe->shared_expert_ffn_hidden_size = 8;
    config.moe->capacity_factor = 1.0;
    config.moe->capacity_group.sequences = 1;
    config.moe->drop_order = DropOrder::kChoicePosition;
  }
  return config;
}

OptimizerConfig oracle_optimizer() {
  OptimizerConfig config;
  config.learning_rate = 0.01;
  config.beta1 = 0.9;
  config.beta2 = 0.95;
  config.eps = 1e-8;
  config.weight_decay = 0.1;
  config.clip_grad_norm = 1.0;
  return config;
}

/// windows: [B, S + 1] tokens.
Batch batch_of(const at::Tensor& windows) {
  const int64_t B = windows.size(0), S = windows.size(1) - 1;
  Batch batch;
  batch.inputs_BS = windows.narrow(1, 0, S).contiguous();
  batch.targets_BS = windows.narrow(1, 1, S).contiguous();
  batch.mask_BS = at::ones({B, S}, at::kBool);
  batch.global_sample_B = at::arange(B, at::kLong);
  batch.domain_B = at::zeros({B}, at::kLong);
  return batch;
}

/// A dense model has no terms; the oracle wrote zeros for it.
double term_value(const StepResult& result, const std::string& name) {
  for (const auto& term : result.terms) {
    if (term.name == name) return term.value;
  }
  return 0.0;
}

class Oracle : public ::testing::TestWithParam<std::tuple<const char*, at::ScalarType>> {
 protected:
  std::string variant() const { return std::get<0>(GetParam()); }
  at::ScalarType dtype() const { return std::get<1>(GetParam()); }

  /// Every parameter of the model from the golden file, and every golden parameter used.
  void load_initial_weights(ParameterStore& store) const {
    int64_t num_slots = 0, num_golden = 0;
    for (auto& group : store.groups()) {
      for (const auto& slot : group.slots) {
        const auto initial = golden_.read("initial." + slot.name);
        ASSERT_EQ(initial.sizes().vec(), slot.shape) << slot.name;
        ParameterGroup::view(group.master, slot).copy_(initial);
        ++num_slots;
      }
    }
    for (const auto& [name, entry] : golden_.entries()) num_golden += name.starts_with("initial.") ? 1 : 0;
    ASSERT_EQ(num_slots, num_golden);
    store.refresh_weights();
  }

  void expect_tensors(ParameterStore& store, at::Tensor ParameterGroup::*buffer, const char* prefix) const {
    for (const auto& group : store.groups()) {
      for (const auto& slot : group.slots) {
        const auto ours = ParameterGroup::view(group.*buffer, slot).to(at::kDouble);
        const auto golden = golden_.read(prefix + slot.name).to(at::kDouble);
        ASSERT_EQ(ours.sizes().vec(), golden.sizes().vec()) << prefix << slot.name;
        EXPECT_LE((ours - golden).norm().item<double>(), tolerance_of(dtype()).tensor * golden.norm().item<double>())
            << prefix << slot.name;
      }
    }
  }

  void expect_scalar(const std::string& name, int64_t step, double ours) const {
    const double golden = golden_.read(name)[step - 1].item<double>();
    EXPECT_NEAR(ours, golden, tolerance_of(dtype()).scalar * std::abs(golden)) << name;
  }

  void expect_counts(const StepResult& result, int64_t step) const {
    ASSERT_EQ(static_cast<int64_t>(result.sums.layers.size()), model_of(variant()).num_moe_layers());
    for (size_t layer = 0; layer < result.sums.layers.size(); ++layer) {
      const auto golden_E = [&](const char* name) { return to_longs(golden_.read(name)[step - 1][static_cast<int64_t>(layer)]); };
      EXPECT_EQ(to_longs(result.sums.layers[layer].assigned_E()), golden_E("expert_counts")) << "MoE layer " << layer;
      EXPECT_EQ(to_longs(result.sums.layers[layer].dropped_E()), golden_E("dropped_counts")) << "MoE layer " << layer;
    }
  }

  void expect_step(const StepResult& result, double norm, int64_t step) const {
    expect_scalar("loss", step, result.loss);
    expect_scalar("cross_entropy", step, result.sums.cross_entropy());
    expect_scalar("aux_loss", step, term_value(result, "aux_loss"));
    expect_scalar("z_loss", step, term_value(result, "z_loss"));
    expect_scalar("grad_norm", step, norm);
    expect_counts(result, step);
  }

  const SafetensorsFile golden_{std::string(SWITCHYARD_SOURCE_DIR "/tests/oracle/") + std::get<0>(GetParam()) + ".safetensors"};
  const at::Tensor tokens_ = golden_.read("tokens");  ///< [steps, B, S + 1]
};

TEST_P(Oracle, AgreesOnLossesGradientsCountsAndWeightsOverTenSteps) {
  const ProcessMesh mesh(make_single_communicator(), /*expert_degree=*/1);
  auto model = build_model(model_of(variant()), {}, mesh, at::dtype(dtype()), /*seed=*/1, /*with_optimizer_state=*/true);
  ASSERT_NO_FATAL_FAILURE(load_initial_weights(*model.store));
  TrainingStep training_step(model, mesh, /*seed=*/1);
  const auto optimizer = oracle_optimizer();
  ASSERT_EQ(tokens_.size(0), kSteps);
  for (int64_t step = 1; step <= kSteps; ++step) {
    SCOPED_TRACE(::testing::Message() << "step " << step);
    const auto result = training_step.run({batch_of(tokens_[step - 1])}, step);
    const double norm = gradient_norm(*model.store, mesh);
    expect_step(result, norm, step);
    if (step == 1) expect_tensors(*model.store, &ParameterGroup::gradients, "gradient.");
    const double scale = norm > optimizer.clip_grad_norm ? optimizer.clip_grad_norm / norm : 1.0;
    adamw_step(*model.store, optimizer, optimizer.learning_rate, step, scale);
  }
  expect_tensors(*model.store, &ParameterGroup::master, "final.");
}

INSTANTIATE_TEST_SUITE_P(Variants, Oracle,
                         ::testing::Combine(::testing::Values("dense", "moe", "moe_capacity"), ::testing::Values(at::kFloat, at::kDouble)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + (std::get<1>(info.param) == at::kDouble ? "_fp64" : "_fp32");
                         });

}  // namespace
}  // namespace switchyard
