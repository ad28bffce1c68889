#include <ATen/ATen.h>

#include "core/loss.h"
#include "training/bench/benches.h"

namespace switchyard {

BenchReport bench_cross_entropy(const BenchInputs& inputs) {
  const auto& config = inputs.config;
  const int64_t ranks = inputs.world->size(), T = config.training.global_batch_size * config.sequence_length() / ranks,
                V = config.model.vocab_size, D = config.model.hidden_size;
  const auto options = at::dtype(inputs.dtype).device(inputs.device);
  const auto head_VD = (at::randn({V, D}, options) * 0.02).requires_grad_(true);
  head_VD.mutable_grad() = at::zeros_like(head_VD);
  const auto plain_TD = at::randn({T, D}, options), plain_VD = at::randn({V, D}, options);
  auto logit_TV = at::empty({T, V}, options), grad_TD = at::empty({T, D}, options), grad_VD = at::empty({V, D}, options);
  at::Tensor hidden_TD, target_T;
  const auto mask_T = at::ones({T}, options.dtype(at::kBool));
  const double tokens = static_cast<double>(T * ranks), flops = 6.0 * tokens * static_cast<double>(V * D);
  const auto products = [&] {
    at::mm_out(logit_TV, plain_TD, plain_VD.t());
    at::mm_out(grad_TD, logit_TV, plain_VD);
    at::mm_out(grad_VD, logit_TV.t(), plain_TD);
  };
  const auto prepare = [&] {
    hidden_TD = at::randn({T, D}, options).requires_grad_(true);
    target_T = at::randint(V, {T}, options.dtype(at::kLong));
    head_VD.mutable_grad().zero_();
  };
  const auto run = [&] { (linear_cross_entropy_sum(hidden_TD, head_VD, target_T, mask_T) / tokens).backward(); };
  auto report = measure_beside_products("cross_entropy", inputs, products,
                                        {{.name = "cross_entropy", .run = run, .prepare = prepare, .flops = flops, .tokens = tokens}});
  report.settings.emplace_back("vocab", std::to_string(V));
  return report;
}

}  // namespace switchyard
