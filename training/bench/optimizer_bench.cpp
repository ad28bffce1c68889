#include <ATen/ATen.h>

#include "core/parameters_by_name.h"
#include "training/bench/benches.h"
#include "training/optimizer.h"

namespace switchyard {
namespace {

struct FusedFp32 {
  explicit FusedFp32(int64_t numel, at::Device device) {
    for (auto* tensor : {&weights, &gradients, &exp_avg, &exp_avg_sq}) *tensor = at::zeros({numel}, at::dtype(at::kFloat).device(device));
    gradients.normal_();
    step = at::ones({}, at::dtype(at::kFloat).device(device));
  }
  void run(const OptimizerConfig& config) {
    at::_fused_adamw_({weights}, {gradients}, {exp_avg}, {exp_avg_sq}, {}, {step}, config.learning_rate, config.beta1, config.beta2,
                      config.weight_decay, config.eps, /*amsgrad=*/false, /*maximize=*/false);
  }
  at::Tensor weights, gradients, exp_avg, exp_avg_sq, step;
};

/// What both read and write of a parameter in fp32: weight, gradient and two moments, three of them written.
constexpr double kBytesAParameter = 4.0 * 7.0;

}  // namespace

BenchReport bench_optimizer(const BenchInputs& inputs) {
  constexpr int64_t kParameters = int64_t{1} << 24;
  at::NoGradGuard no_grad;
  const std::vector<NamedParameter> parameters = {
      {.name = "weights", .tensor = at::randn({kParameters / 1024, 1024}), .decays = true, .num_experts = 0, .first_expert = 0}};
  ParameterStore store(parameters, inputs.dtype, inputs.device, /*with_optimizer_state=*/true);
  for (auto& group : store.groups()) group.gradients.normal_();
  FusedFp32 fused(kParameters, inputs.device);
  const auto source = at::zeros({kParameters}, at::dtype(at::kFloat).device(inputs.device));
  auto target = at::zeros_like(source);
  const double ranks = static_cast<double>(inputs.world->size()), bytes = ranks * kBytesAParameter * static_cast<double>(kParameters);
  constexpr double kClip = 0.5;
  int64_t step = 0;
  BenchReport report{.benchmark = "optimizer",
                     .settings = {{"dtype", c10::toString(inputs.dtype)}, {"parameters", std::to_string(kParameters)}}};
  report.rows =
      measure({{.name = "copy", .run = [&] { target.copy_(source); }, .bytes = ranks * 8.0 * static_cast<double>(kParameters)},
               {.name = "_fused_adamw_ fp32", .run = [&] { fused.run(inputs.config.optimizer); }, .bytes = bytes, .limit = "copy"},
               {.name = "adamw_step",
                .run = [&] { adamw_step(store, inputs.config.optimizer, inputs.config.optimizer.learning_rate, ++step, kClip); },
                .bytes = bytes,
                .limit = "_fused_adamw_ fp32"}},
              inputs.repetitions, *inputs.world, inputs.device);
  report.notes = {"Bytes are those of fp32 weights, gradients and moments, whatever the dtype."};
  return report;
}

}  // namespace switchyard
