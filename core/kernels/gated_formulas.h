// Gated activations of one element and their derivatives, for the kernels of every device.
#pragma once

#include <cmath>

#include "core/kernels/arithmetic.h"
#include "core/kernels/inlined.h"

namespace switchyard::kernels {

// gpt-oss (openai/gpt-oss, model.py, swiglu)
inline constexpr double kClampedSwigluSlope = 1.702;
inline constexpr double kClampedSwigluLimit = 7.0;

template <typename T>
struct GatedResults {
  T activation, grad_gate, grad_up;
};

template <typename T>
SWITCHYARD_INLINED T sigmoid(T x) {
  return T(1) / (T(1) + exponential(-x));
}

/// silu(gate) * up. Forward and backward multiply by the same sigmoid, so that both give the same activation; a division costs more than
/// the exponential.
template <typename T>
struct SwigluFormula {
  SWITCHYARD_INLINED static T activation(T gate, T up) { return gate * sigmoid(gate) * up; }

  SWITCHYARD_INLINED static GatedResults<T> backward(T grad, T gate, T up) {
    const T share = sigmoid(gate), silu = gate * share;
    return {silu * up, grad * up * (share * (T(1) + gate * (T(1) - share))), grad * silu};
  }
};

/// gate * sigmoid(1.702 gate) * (up + 1), clamped. No gradient passes what a clamp holds.
template <typename T>
struct ClampedSwigluFormula {
  static constexpr T kSlope = T(kClampedSwigluSlope), kLimit = T(kClampedSwigluLimit);

  SWITCHYARD_INLINED static T activation(T gate, T up) {
    const T held = at_most(kLimit, gate);
    return held * sigmoid(kSlope * held) * (at_least(-kLimit, at_most(kLimit, up)) + T(1));
  }

  SWITCHYARD_INLINED static GatedResults<T> backward(T grad, T gate, T up) {
    const T held = at_most(kLimit, gate), factor = at_least(-kLimit, at_most(kLimit, up)) + T(1);
    const T share = sigmoid(kSlope * held), value = held * share;
    const T slope = share * (T(1) + kSlope * held * (T(1) - share));
    return {value * factor, grad * factor * slope * choose(gate <= kLimit, T(1), T(0)),
            grad * value * choose(std::abs(up) <= kLimit, T(1), T(0))};
  }
};

}  // namespace switchyard::kernels
