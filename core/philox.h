// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). A number belongs to
// (seed, step, global sample, layer, position, element) and to nothing else: the same on every layout, and drawn again the same in a second
// forward.
#pragma once

#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/routing/routing.h"

namespace switchyard {

/// What a stream of numbers is for; streams are independent of each other.
enum class RandomPurpose : int64_t {
  kRouterInputJitter = 1,
  kRouterNoise = 2,
  kGroupNoise = 3,
  kSecondExpert = 4,
  kHash = 5,
  kForcedRouting = 6,
  kDropOrder = 7,
  kExpertDropout = 8,
};

/// Philox4x32-10 element by element: int64 tensors holding 32-bit words, broadcast against each other.
std::array<at::Tensor, 4> philox(std::array<at::Tensor, 4> counter, int64_t key_low, int64_t key_high);

/// u_TD in [0, 1), float32, for tokens t = (b, s): element d of token (b, s) by (seed, step, global_sample_B[b], layer, s, d).
at::Tensor uniform_by_token(const TokenContext& context, int64_t sequence_length, int64_t width, RandomPurpose purpose);

/// Standard normal numbers, float64, by the same rule.
at::Tensor normal_by_token(const TokenContext& context, int64_t sequence_length, int64_t width, RandomPurpose purpose);

/// u_Nw in [0, 1), float32: element w by (label_N[n], seed, step, layer, w). Labels as uniform_by_number's numbers.
at::Tensor uniform_by_label(const at::Tensor& label_N, int64_t width, const TokenContext& context, RandomPurpose purpose);

/// u_Nw in [0, 1), float32: element w of number n by (number_N[n], layer, w) alone, the same in every run. number_N: int64, not negative.
at::Tensor uniform_by_number(const at::Tensor& number_N, int64_t width, int64_t layer, RandomPurpose purpose);

}  // namespace switchyard
