// The experts of one layer that stand on this rank: stacked feed-forwards over rows sorted by expert.
// e experts held here, R rows (with padding), D model width, F expert width.
#pragma once

#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/dispatcher.h"
#include "core/expert_computation.h"
#include "core/model_config.h"

namespace switchyard {

/// y_RD = down_e(dropout(activation(up_e x + bias_e))) + bias_e for each expert's rows, as one autograd function: forward and backward are
/// written together, so that they can be made fast without touching anything else. Padding rows mean nothing; their gradients must be zero.
/// An expert without rows gets a zero gradient. dropout_RF: what the activations are multiplied by; undefined = 1.
at::Tensor apply_experts(const ExpertRows& input, const ExpertWeights& weights, Activation activation, const at::Tensor& dropout_RF = {});

class ExpertsImpl : public torch::nn::Module {
 public:
  /// Parameters: gate_up (or up) [e, W, D] and down [e, D, F]; with expert_bias gate_up_bias (or up_bias) [e, W] and down_bias [e, D]. With
  /// nested experts e counts those inside, and there is nested_router [e, D].
  ExpertsImpl(int64_t num_local_experts, int64_t hidden_size, const MoeConfig& config);
  /// The weights by chunk of a dispatcher (see TokenDispatcher::chunk_starts), for apply_experts.
  std::vector<ExpertWeights> in_chunks(const std::vector<int64_t>& chunk_starts) const;

 private:
  ExpertWeights weights_;
};
TORCH_MODULE(Experts);

}  // namespace switchyard
