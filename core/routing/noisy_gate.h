// Noisy top-k gating (Shazeer et al. 2017, arXiv:1701.06538, section 2.1 and appendix A), over experts or over groups of them.
// T tokens, n places to choose from (the last dimension; others may stand before it).
#pragma once

#include "core/philox.h"
#include "core/routing/routing.h"

namespace switchyard {

struct NoisyLogits {
  at::Tensor clean_Tn;      ///< z
  at::Tensor deviation_Tn;  ///< softplus of the noise map
  at::Tensor noisy_Tn;      ///< H = z + normal x deviation in training, z otherwise
};

/// The noise belongs to (seed, step, sample, layer, position, place) and `purpose`.
NoisyLogits add_noise(const at::Tensor& clean_Tn, const at::Tensor& noise_map_Tn, const TokenContext& context, RandomPurpose purpose);

/// P(x, i) = Phi((z_i - the k-th largest of H without i) / deviation_i): how likely i is among the k best, would its noise be drawn again.
/// chosen_Tn: 1 at the k best of H. k = n: 1 everywhere.
at::Tensor smooth_load(const NoisyLogits& logits, const at::Tensor& chosen_Tn, int64_t k);

/// [T, n]: softmax of H over the chosen, zero elsewhere.
at::Tensor gate_over(const at::Tensor& noisy_Tn, const at::Tensor& chosen_Tn);

}  // namespace switchyard
