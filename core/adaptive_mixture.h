// Adaptive Mixtures of Local Experts (Jacobs, Jordan, Nowlan and Hinton 1991, Neural Computation 3): a gate and linear experts that see the
// same input, and the loss that makes experts compete for cases instead of cooperating on each.
// T cases, D inputs, O outputs, E experts.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace switchyard {

struct MixtureOutput {
  at::Tensor log_gate_TE;  ///< log of the gate's probabilities
  at::Tensor output_TEO;   ///< what each expert says
};

class AdaptiveMixtureImpl : public torch::nn::Module {
 public:
  /// Parameters: gate [E, D] and gate_bias [E], experts [E, O, D] and experts_bias [E, O]; normal with standard deviation 0.5 by `seed`,
  /// the gate's bias 0. float64.
  AdaptiveMixtureImpl(int64_t num_experts, int64_t num_inputs, int64_t num_outputs, uint64_t seed);
  MixtureOutput forward(const at::Tensor& x_TD);

 private:
  at::Tensor gate_ED_, gate_bias_E_, experts_EOD_, experts_bias_EO_;
};
TORCH_MODULE(AdaptiveMixture);

/// Mean over cases of -log sum_i p_i exp(-||d - o_i||^2 / (2 sigma^2)): each expert is compared with the target alone, and the gate learns
/// who explains it best (equation 1.3; sigma 1 there).
at::Tensor competitive_mixture_loss(const MixtureOutput& output, const at::Tensor& target_TO, double sigma);

/// Mean over cases of ||d - sum_i p_i o_i||^2 / (2 sigma^2), in which experts must make up for each other's errors (equation 1.1).
at::Tensor cooperative_mixture_loss(const MixtureOutput& output, const at::Tensor& target_TO, double sigma);

}  // namespace switchyard
