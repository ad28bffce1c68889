#include "training/bench/benches.h"

#include <c10/core/ScalarType.h>

namespace switchyard {

const std::vector<Bench>& benches() {
  static const std::vector<Bench> all = {{"gemm", "matrix products by dtype and shape", bench_gemm},
                                         {"moe_layer", "one MoE layer, forward and backward", bench_moe_layer},
                                         {"attention", "one attention layer, forward and backward", bench_attention},
                                         {"step", "a whole training step, by phase", bench_step},
                                         {"cross_entropy", "output map and cross entropy, forward and backward", bench_cross_entropy},
                                         {"all_to_all", "exchanges between ranks by message size", bench_all_to_all},
                                         {"checkpoint", "saving model and optimizer state", bench_checkpoint},
                                         {"optimizer", "the optimizer's update", bench_optimizer}};
  return all;
}

BenchReport measure_beside_products(const std::string& benchmark, const BenchInputs& inputs, std::function<void()> products,
                                    std::vector<BenchItem> layers) {
  const BenchItem limit{.name = "gemms", .run = std::move(products), .flops = layers.front().flops, .tokens = layers.front().tokens};
  for (auto& layer : layers) layer.limit = limit.name;
  layers.insert(layers.begin(), limit);
  BenchReport report{.benchmark = benchmark, .settings = model_settings(inputs)};
  report.rows = measure(layers, inputs.repetitions, *inputs.world, inputs.device);
  return report;
}

BenchSettings model_settings(const BenchInputs& inputs) {
  const auto& model = inputs.config.model;
  const auto text = [](int64_t number) { return std::to_string(number); };
  BenchSettings settings = {{"dtype", c10::toString(inputs.dtype)},
                            {"tokens", text(inputs.config.training.global_batch_size * inputs.config.sequence_length())},
                            {"d_model", text(model.hidden_size)}};
  if (model.moe) {
    settings.emplace_back("experts", text(model.moe->num_experts));
    settings.emplace_back("top_k", text(model.moe->top_k));
    settings.emplace_back("expert_ffn", text(model.moe->ffn_hidden_size));
    settings.emplace_back("expert_parallel", text(inputs.config.parallel.expert));
  }
  return settings;
}

}  // namespace switchyard
