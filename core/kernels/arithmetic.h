// The arithmetic of one element, in forms that a CPU's compiler turns into vectors: no branch, no call. A GPU computes the same bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <ATen/OpMathType.h>
#include <c10/util/BFloat16.h>

#include "core/kernels/inlined.h"

namespace switchyard::kernels {

/// What a kernel computes in: fp32 for bf16, else the dtype itself.
template <typename scalar_t>
using Wide = at::opmath_type<std::remove_const_t<scalar_t>>;

SWITCHYARD_INLINED double widened(double x) {
  return x;
}
SWITCHYARD_INLINED float widened(float x) {
  return x;
}
SWITCHYARD_INLINED float widened(c10::BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16);
}

/// Rounds to the nearest, ties to even. A NaN stays one.
template <typename scalar_t>
SWITCHYARD_INLINED scalar_t narrowed(Wide<scalar_t> x) {
  if constexpr (std::is_same_v<scalar_t, c10::BFloat16>) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, all_if_nan = 0u - static_cast<uint32_t>(x != x);
    return {static_cast<uint16_t>((rounded & ~all_if_nan) | (0x7fc0u & all_if_nan)), c10::BFloat16::from_bits()};
  } else {
    return x;
  }
}

/// What x is once it has been stored.
template <typename scalar_t>
SWITCHYARD_INLINED Wide<scalar_t> rounded_to(Wide<scalar_t> x) {
  return widened(narrowed<scalar_t>(x));
}

SWITCHYARD_INLINED double choose(bool condition, double yes, double no) {
  return condition ? yes : no;
}
/// By bits: two `?:` in a row become a branch, which keeps the loop from being vectorised.
SWITCHYARD_INLINED float choose(bool condition, float yes, float no) {
  const uint32_t all_if_yes = 0u - static_cast<uint32_t>(condition);
  return std::bit_cast<float>((std::bit_cast<uint32_t>(yes) & all_if_yes) | (std::bit_cast<uint32_t>(no) & ~all_if_yes));
}

/// NaN stays NaN.
template <typename T>
SWITCHYARD_INLINED T at_most(T limit, T x) {
  return choose(x > limit, limit, x);
}
template <typename T>
SWITCHYARD_INLINED T at_least(T limit, T x) {
  return choose(x < limit, limit, x);
}

SWITCHYARD_INLINED double exponential(double x) {
  return std::exp(x);
}

/// e^x within 2 ulp, subnormal results too: x = n ln 2 + r, |r| <= ln(2) / 2, and the polynomial of Cephes for e^r.
SWITCHYARD_INLINED float exponential(float x) {
  // e^89 is beyond the greatest float, e^-104 rounds to zero.
  x = at_least(-104.0f, at_most(89.0f, x));
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: a float of this size has no bits behind the point
  const float shifted = x * 1.44269504f + kRounder, n = shifted - kRounder;
  const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRounder);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts; n times the first is exact
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^power in two factors, as 2^128 and 2^-150 are no floats.
  const int32_t half = power >> 1;
  return p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((power - half + 127) << 23);
}

}  // namespace switchyard::kernels
