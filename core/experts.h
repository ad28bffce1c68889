// The experts of one layer that stand on this rank: stacked SwiGLU feed-forwards over rows sorted by expert.
// e experts held here, R rows (with padding), D model width, F expert width.
#pragma once

#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/dispatcher.h"

namespace switchyard {

/// y_RD = down_e(swiglu(gate_up_e x)) for each expert's rows, as one autograd function: forward and backward are written together, so that
/// they can be made fast without touching anything else. Padding rows come out as zeros. An expert without rows gets a zero gradient.
at::Tensor apply_experts(const ExpertRows& input, const at::Tensor& gate_up_e2FD, const at::Tensor& down_eDF);

/// Some of a rank's experts.
struct ExpertWeights {
  at::Tensor gate_up_e2FD;
  at::Tensor down_eDF;
};

class ExpertsImpl : public torch::nn::Module {
 public:
  ExpertsImpl(int64_t num_local_experts, int64_t hidden_size, int64_t ffn_hidden_size);
  /// The weights by chunk of a dispatcher (see TokenDispatcher::chunk_starts), for apply_experts.
  std::vector<ExpertWeights> in_chunks(const std::vector<int64_t>& chunk_starts) const;

 private:
  at::Tensor gate_up_e2FD_;
  at::Tensor down_eDF_;
};
TORCH_MODULE(Experts);

}  // namespace switchyard
