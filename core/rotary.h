// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) in the half-split layout of Llama and Mixtral: pairs (i, i + d/2).
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// cos and sin of position * theta^(-2i/d) for every position of a sequence, one table a model.
class RotaryTable {
 public:
  /// head_dim must be even.
  RotaryTable(int64_t max_positions, int64_t head_dim, double theta);

  /// x_BHSd: heads of queries or keys at positions 0 ... S-1 -> rotated, same shape and dtype; computed in max(fp32, run dtype).
  at::Tensor rotate(const at::Tensor& x_BHSd) const;

  /// The table whose row s is, for sequence b, this one's row position_BS[b][s]. Undefined positions: this table.
  RotaryTable at_positions(const at::Tensor& position_BS) const;

  /// Once a model, not once a layer: a copy between host and device holds up both. Nothing to do where it stands there already.
  void move_to(at::Device device);

 private:
  RotaryTable() = default;

  at::Tensor cos_Sd_;  ///< fp64; the second half repeats the first. [B, 1, S, d] where sequences have positions of their own
  at::Tensor sin_Sd_;  ///< the first half negated, as the formula (a cos - b sin, b cos + a sin) needs it
};

}  // namespace switchyard
