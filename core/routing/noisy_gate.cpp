#include "core/routing/noisy_gate.h"

#include <limits>

namespace switchyard {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

NoisyLogits add_noise(const at::Tensor& clean_Tn, const at::Tensor& noise_map_Tn, const TokenContext& context, RandomPurpose purpose) {
  constexpr double kLeastDeviation = 1e-6;  // P divides by it
  NoisyLogits logits{clean_Tn, at::softplus(noise_map_Tn).clamp_min(kLeastDeviation), clean_Tn};
  if (!context.training) return logits;
  const int64_t S = clean_Tn.size(0) / context.global_sample_B.size(0);
  const auto normal_Tn = normal_by_token(context, S, clean_Tn.size(1), purpose).to(clean_Tn.scalar_type());
  logits.noisy_Tn = clean_Tn + normal_Tn * logits.deviation_Tn;
  return logits;
}

at::Tensor smooth_load(const NoisyLogits& logits, const at::Tensor& chosen_Tn, int64_t k) {
  const int64_t n = logits.noisy_Tn.size(-1);
  if (k >= n) return at::ones_like(logits.noisy_Tn);
  const auto sorted_Tn = std::get<0>(logits.noisy_Tn.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true));
  // Without one of the k best the k-th largest is the one behind them.
  const auto kth_Tn = at::where(chosen_Tn.to(at::kBool), sorted_Tn.narrow(-1, k, 1), sorted_Tn.narrow(-1, k - 1, 1));
  return at::special_ndtr((logits.clean_Tn - kth_Tn) / logits.deviation_Tn);
}

at::Tensor gate_over(const at::Tensor& noisy_Tn, const at::Tensor& chosen_Tn) {
  return noisy_Tn.masked_fill(chosen_Tn.to(at::kBool).logical_not(), -kInfinity).softmax(-1);
}

}  // namespace switchyard
