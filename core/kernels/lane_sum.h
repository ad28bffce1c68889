// Sums, and greatest elements, whose order no machine and no number of threads decides.
#pragma once

#include <cstdint>

#include "core/kernels/arithmetic.h"
#include "core/kernels/inlined.h"

namespace switchyard::kernels {

/// A sum over a row in an order that the width alone decides: element d goes to lane d % kLanes, and the lanes are added as a tree.
template <typename T>
class LaneSum {
 public:
  /// The sum of term(d) over d < width.
  template <class Term>
  SWITCHYARD_INLINED static T of(int64_t width, Term term) {
    const int64_t whole = width / kLanes * kLanes;
    T lanes[kLanes];
    if (whole == 0) {
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = lane < width ? term(lane) : T(0);
      return folded(lanes);
    }
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = term(lane);
    for (int64_t first = kLanes; first < whole; first += kLanes) {
#pragma omp simd
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(first + lane);
    }
    // Apart, because lanes that a loop of unknown length adds to do not stay in registers.
    if (whole == width) return folded(lanes);
    for (int64_t lane = 0; whole + lane < width; ++lane) lanes[lane] += term(whole + lane);
    return folded(lanes);
  }

 private:
  static constexpr int64_t kLanes = 32;  // four vectors of eight floats, so that an addition need not wait for the one before

  SWITCHYARD_INLINED static T folded(T* lanes) {
    add_halves<kLanes / 2>(lanes);
    return lanes[0];
  }

  /// Lane i + kHalf is added to lane i.
  template <int64_t kHalf>
  SWITCHYARD_INLINED static void add_halves(T* lanes) {
#pragma GCC unroll 32
    for (int64_t lane = 0; lane < kHalf; ++lane) lanes[lane] += lanes[lane + kHalf];
    if constexpr (kHalf > 1) add_halves<kHalf / 2>(lanes);
  }
};

/// The greatest term(d) over d < width, which is positive.
template <typename T, class Term>
SWITCHYARD_INLINED T greatest_of(int64_t width, Term term) {
  constexpr int64_t kLanes = 32;
  T lanes[kLanes];
#pragma omp simd
  for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = term(0);
  int64_t first = 0;
  for (; first + kLanes <= width; first += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = at_least(term(first + lane), lanes[lane]);
  }
  T greatest = lanes[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) greatest = at_least(lanes[lane], greatest);
  for (int64_t d = first; d < width; ++d) greatest = at_least(term(d), greatest);
  return greatest;
}

}  // namespace switchyard::kernels
