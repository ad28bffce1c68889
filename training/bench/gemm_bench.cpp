#include <ATen/ATen.h>

#include "core/activation.h"
#include "training/bench/benches.h"

namespace switchyard {
namespace {

/// C[m, n] = A[m, k] B[n, k]^T, the form of a linear layer.
BenchItem linear_product(const std::string& name, int64_t m, int64_t n, int64_t k, const BenchInputs& inputs, at::ScalarType dtype) {
  const auto options = at::dtype(dtype).device(inputs.device);
  const auto a = at::randn({m, k}, options), b = at::randn({n, k}, options);
  auto c = at::empty({m, n}, options);
  const auto ranks = static_cast<double>(inputs.world->size());
  return {.name = name,
          .run = [a, b, c]() mutable { at::mm_out(c, a, b.t()); },
          .flops = 2.0 * ranks * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k)};
}

/// An expert's rows when all experts get equally many.
int64_t equal_rows(const RunConfig& config) {
  const auto& moe = *config.model.moe;
  return config.training.global_batch_size * config.sequence_length() * moe.top_k / moe.num_experts;
}

}  // namespace

BenchReport bench_gemm(const BenchInputs& inputs) {
  const int64_t D = inputs.config.model.hidden_size;
  constexpr int64_t kSquare = 1024;
  std::vector<BenchItem> items;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const std::string name = c10::toString(dtype), square = name + " 1024^3";
    items.push_back(linear_product(square, kSquare, kSquare, kSquare, inputs, dtype));
    if (!inputs.config.model.moe) continue;
    const auto& moe = *inputs.config.model.moe;
    const int64_t rows = equal_rows(inputs.config), F = moe.ffn_hidden_size, W = up_width(moe.activation, F);
    items.push_back(linear_product(name + " expert up", rows, W, D, inputs, dtype));
    items.push_back(linear_product(name + " expert down", rows, D, F, inputs, dtype));
    for (size_t i = items.size() - 2; i < items.size(); ++i) items[i].limit = square;
  }
  BenchReport report{.benchmark = "gemm", .settings = model_settings(inputs)};
  report.rows = measure(items, inputs.repetitions, *inputs.world, inputs.device);
  return report;
}

}  // namespace switchyard
