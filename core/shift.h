// Sequences moved by some places.
#pragma once

#include <algorithm>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// What stands `places` further on in each row of x_BS; zeros (false) where that is behind the end.
inline at::Tensor shifted(const at::Tensor& x_BS, int64_t places) {
  const int64_t S = x_BS.size(1), moved = std::min(places, S);
  return at::cat({x_BS.narrow(1, moved, S - moved), at::zeros({x_BS.size(0), moved}, x_BS.options())}, 1);
}

}  // namespace switchyard
