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
enum class RandomPurpose : int64_t { kRouterInputJitter = 1 };

/// Philox4x32-10 element by element: int64 tensors holding 32-bit words, broadcast against each other.
std::array<at::Tensor, 4> philox(std::array<at::Tensor, 4> counter, int64_t key_low, int64_t key_high);

/// u_TD in [0, 1), float32, for tokens t = (b, s): element d of token (b, s) by (seed, step, global_sample_B[b], layer, s, d).
at::Tensor uniform_by_token(const TokenContext& context, int64_t sequence_length, int64_t width, RandomPurpose purpose);

}  // namespace switchyard
