#include "core/adaptive_mixture.h"

#include <ATen/CPUGeneratorImpl.h>

namespace switchyard {
namespace {

/// ||d - o||^2 / (2 sigma^2) over the last dimension.
at::Tensor half_squared_error(const at::Tensor& output, const at::Tensor& target, double sigma) {
  return (target - output).square().sum(-1) / (2.0 * sigma * sigma);
}

}  // namespace

AdaptiveMixtureImpl::AdaptiveMixtureImpl(int64_t num_experts, int64_t num_inputs, int64_t num_outputs, uint64_t seed) {
  constexpr double kInitialSpread = 0.5;  // experts that start alike stay alike
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto normal = [&](at::IntArrayRef shape) { return at::empty(shape, at::kDouble).normal_(0.0, kInitialSpread, generator); };
  gate_ED_ = register_parameter("gate", normal({num_experts, num_inputs}));
  gate_bias_E_ = register_parameter("gate_bias", at::zeros({num_experts}, at::kDouble));
  experts_EOD_ = register_parameter("experts", normal({num_experts, num_outputs, num_inputs}));
  experts_bias_EO_ = register_parameter("experts_bias", normal({num_experts, num_outputs}));
}

MixtureOutput AdaptiveMixtureImpl::forward(const at::Tensor& x_TD) {
  return {at::linear(x_TD, gate_ED_, gate_bias_E_).log_softmax(1), at::einsum("td,eod->teo", {x_TD, experts_EOD_}) + experts_bias_EO_};
}

at::Tensor competitive_mixture_loss(const MixtureOutput& output, const at::Tensor& target_TO, double sigma) {
  const auto error_TE = half_squared_error(output.output_TEO, target_TO.unsqueeze(1), sigma);
  return -(output.log_gate_TE - error_TE).logsumexp(1).mean();
}

at::Tensor cooperative_mixture_loss(const MixtureOutput& output, const at::Tensor& target_TO, double sigma) {
  const auto blended_TO = (output.log_gate_TE.exp().unsqueeze(2) * output.output_TEO).sum(1);
  return half_squared_error(blended_TO, target_TO, sigma).mean();
}

}  // namespace switchyard
