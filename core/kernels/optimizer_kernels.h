// The optimizer's passes over flat buffers. CPU; fp32 and fp64, the run's weights bf16 too.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

struct AdamwNumbers {
  double learning_rate, beta1, beta2, eps, weight_decay;
  double gradient_scale;  ///< every gradient is multiplied by it first
  double step;            ///< from 1
};

/// Buffers of one length. `weights` is written with the new master values in its own dtype, bf16; undefined = the master is the weight.
struct AdamwBuffers {
  at::Tensor master, gradients, exp_avg, exp_avg_sq;
  at::Tensor weights = {};
};

/// AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2) in one pass: every number is read once and written once.
void adamw(const AdamwBuffers& buffers, const AdamwNumbers& numbers);

/// The sum of squares of a flat buffer, in fp64: by blocks of fixed size, added in their order.
double sum_of_squares(const at::Tensor& values);

}  // namespace switchyard::kernels
