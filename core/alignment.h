// Where matrices may start: at cache lines, so that matrix products take the same kernels, and give the same bits, wherever one lies.
#pragma once

#include <cstdint>

#include <ATen/ATen.h>

namespace switchyard {

inline constexpr int64_t kAlignmentBytes = 64;

/// Elements in an aligned unit.
inline int64_t alignment_of(at::ScalarType dtype) {
  return kAlignmentBytes / static_cast<int64_t>(c10::elementSize(dtype));
}

/// `numel` rounded up to whole units.
inline int64_t aligned_numel(int64_t numel, at::ScalarType dtype) {
  const int64_t unit = alignment_of(dtype);
  return (numel + unit - 1) / unit * unit;
}

}  // namespace switchyard
