// How often the host waits for the GPU: once a MoE layer, for the numbers of rows.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

#include "core/host_copy.h"
#include "core/routing/statistics.h"
#include "tests/gpu/gpu.h"
#include "tests/tiny_models.h"
#include "training/model_instance.h"

namespace switchyard {
namespace {

/// Counts c10's warnings of waits for the device while it lives.
class WaitCounter : public c10::WarningHandler {
 public:
  WaitCounter() : guard_(this) { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_WARN); }
  ~WaitCounter() override { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED); }
  void process(const c10::Warning& warning) override {
    if (warning.msg().find("synchroniz") != std::string::npos) ++count_;
  }
  int64_t count() const { return count_; }

 private:
  c10::WarningUtils::WarningHandlerGuard guard_;
  int64_t count_ = 0;
};

TokenContext context_on_gpu(const ModelConfig& config) {
  auto context = tiny_context(4, 8, config.vocab_size);
  for (auto* tensor : {&context.token_ids_BS, &context.global_sample_B, &context.mask_BS, &context.domain_B}) {
    *tensor = to_device(*tensor, kGpu);
  }
  return context;
}

/// Waits of one forward and backward, after one that has set everything up.
int64_t waits_of(const ModelConfig& config) {
  const ProcessMesh mesh(make_single_communicator(), 1);
  auto model = build_model(config, {}, mesh, at::dtype(at::kFloat).device(kGpu), /*seed=*/1, /*with_optimizer_state=*/true);
  const auto context = context_on_gpu(config);
  const auto pass = [&] {
    auto output = model.transformer->forward(context);
    auto sum = output.hidden_BSD.sum().to(at::kDouble);
    for (const auto& layer : output.statistics) sum = sum + RoutingSums(layer).packed().sum();
    sum.backward();
  };
  pass();
  const WaitCounter counter;
  pass();
  return counter.count();
}

ModelConfig model_of(int64_t num_layers) {
  auto config = tiny_config();
  config.num_layers = num_layers;
  return config;
}

TEST(HostWaits, AreSeen) {
  const auto tensor = at::ones({1}, at::dtype(at::kFloat).device(kGpu));
  const WaitCounter counter;
  tensor.item<float>();
  EXPECT_EQ(counter.count(), 1);
}

TEST(HostWaits, HappenOnceAMoeLayer) {
  for (const int64_t num_layers : {1, 3}) EXPECT_EQ(waits_of(model_of(num_layers)), num_layers);
}

TEST(HostWaits, HappenOnceAMoeLayerWhateverRoutes) {
  for (const auto* router : {"noisy_top_k", "gshard_top_2", "expert_choice", "sinkhorn", "hash", "forced_random"}) {
    auto config = model_of(2);
    config.moe->router = router;
    config.moe->capacity_factor = 1.0;
    EXPECT_EQ(waits_of(config), 2) << router;
  }
}

TEST(HostWaits, HappenOnceMoreForTheExpertsInsideNestedOnes) {
  auto config = model_of(2);
  config.moe->nested_experts = 2;
  EXPECT_EQ(waits_of(config), 4);
}

}  // namespace
}  // namespace switchyard
