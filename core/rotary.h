// Rotary position embedding (Su et al. 2021, arXiv:2104.09864).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/attention_config.h"

namespace switchyard {

/// float64 [rotary_dim / 2]: the angle by which each pair turns from one position to the next, theta^(-2i/d), stretched as config says.
at::Tensor rotary_frequencies(int64_t rotary_dim, double theta, const RopeConfig& config);

/// What `config` multiplies cos and sin by; 1 without yarn.
double rotary_attention_factor(const RopeConfig& config);
/// What DeepSeek multiplies the scores of latent attention by, beside (width of a head)^-0.5; 1 without yarn and mscale_all_dim.
double latent_score_factor(const RopeConfig& config);

/// cos and sin for every position of a sequence, one table a model.
class RotaryTable {
 public:
  /// rotary_dim must be even: of a head's width, what turns.
  RotaryTable(int64_t max_positions, int64_t rotary_dim, double theta, const RopeConfig& config = {});

  /// x_BHSd: heads of queries or keys at positions 0 ... S-1 -> rotated, same shape and dtype; computed in max(fp32, run dtype). What lies
  /// behind the first rotary_dim of d is left as it is.
  at::Tensor rotate(const at::Tensor& x_BHSd) const;

  /// The table whose row s is this one's row first + s.
  RotaryTable from_position(int64_t first) const;
  /// The table whose row s is, for sequence b, this one's row position_BS[b][s].
  RotaryTable at_positions(const at::Tensor& position_BS) const;

  /// Once a model, not once a layer: a copy between host and device holds up both. Nothing to do where it stands there already.
  void move_to(at::Device device);

 private:
  at::Tensor swap_pairs(const at::Tensor& x) const;

  bool interleaved_ = false;
  at::Tensor cos_Sd_;  ///< fp64; every pair's number stands at both places. [B, 1, S, d] where sequences have positions of their own
  at::Tensor sin_Sd_;  ///< negated at the first place, as the formula (a cos - b sin, b cos + a sin) needs it
};

}  // namespace switchyard
