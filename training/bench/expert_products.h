// The limit of an MoE layer: the matrix products of its experts and nothing else.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/model_config.h"

namespace switchyard {

/// The products of forward and backward of `num_experts` experts with `rows` rows each, into buffers that are there already.
class ExpertProducts {
 public:
  ExpertProducts(int64_t num_experts, int64_t rows, int64_t hidden_size, const MoeConfig& moe, const at::TensorOptions& options);
  void run();

 private:
  struct Buffers {
    at::Tensor x_RD, up_RW, activation_RF, y_RD;
    at::Tensor grad_x_RD, grad_up_RW, grad_activation_RF;
    at::Tensor up_WD, down_DF, grad_up_WD, grad_down_DF;
  };
  std::vector<Buffers> experts_;
};

/// Floating-point operations of forward and backward of `rows` rows in all.
double expert_flops(double rows, int64_t hidden_size, const MoeConfig& moe);

}  // namespace switchyard
