// What experts compute, without autograd: forward, and backward from what forward left. In two ways that agree but for rounding: on a CPU
// by blocks of rows, on a GPU by products of all experts at once. e experts, R rows (with padding) sorted by expert, D model width, F
// expert width, W = F, or 2 F of gated activations.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/model_config.h"

namespace switchyard {

/// Some of a rank's experts.
struct ExpertWeights {
  at::Tensor up_eWD;
  at::Tensor down_eDF;
  at::Tensor up_bias_eW = {};        ///< undefined = none
  at::Tensor down_bias_eD = {};      ///< undefined = none
  at::Tensor nested_router_MD = {};  ///< the gates inside experts (core/nested_experts.h); undefined = the experts are plain
  at::Tensor up_sum_eWD = {};        ///< where backward adds the gradient of up_eWD (core/gradient_room.h); undefined = autograd gets it
  at::Tensor down_sum_eDF = {};
};

struct ExpertComputation {
  at::Tensor x_RD;
  ExpertWeights weights;
  at::Tensor dropout_RF;              ///< what the activations are multiplied by; undefined = 1
  std::vector<int64_t> row_counts_e;  ///< without padding
  Activation activation;
};

struct ExpertOutputs {
  at::Tensor y_RD;
  at::Tensor up_RW;  ///< what the activation was applied to: for backward
};

/// Undefined where there is no such weight, or where the gradient was added to its sum.
struct ExpertGradients {
  at::Tensor x_RD;
  at::Tensor up_eWD;
  at::Tensor down_eDF;
  at::Tensor up_bias_eW;
  at::Tensor down_bias_eD;
};

/// CPU. A row's bits depend on neither the other rows nor the threads.
ExpertOutputs outputs_by_blocks(const ExpertComputation& computation);
ExpertGradients gradients_by_blocks(const ExpertComputation& computation, const at::Tensor& up_RW, const at::Tensor& grad_y_RD);

/// CUDA; the host does not wait. (CPU in fp32 and bf16, for tests.)
ExpertOutputs outputs_by_groups(const ExpertComputation& computation);
ExpertGradients gradients_by_groups(const ExpertComputation& computation, const at::Tensor& up_RW, const at::Tensor& grad_y_RD);

/// Consecutive rows of one expert.
struct RowBlock {
  int64_t expert = 0, first = 0, rows = 0;
};

/// All rows, padding too, in blocks of at most `most`, those of an expert about equally long. By default a block an expert that has rows.
std::vector<RowBlock> row_blocks(const std::vector<int64_t>& row_counts_e, int64_t most = INT64_MAX);

/// The gradient of a bias [e, O]: the sums of each expert's rows. Undefined where there is no bias.
at::Tensor sums_by_expert(const at::Tensor& bias_eO, const at::Tensor& grad_RO, const std::vector<int64_t>& row_counts_e);

}  // namespace switchyard
