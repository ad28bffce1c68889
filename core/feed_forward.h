// The dense feed-forward block: down(activation(up x)). Also the shared expert of an MoE layer.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/model_config.h"

namespace switchyard {

class FeedForwardImpl : public torch::nn::Module {
 public:
  /// Parameters: gate_up [2 F, D] of gated activations, up [F, D] of others; down [D, F]; with `bias` up_bias and down_bias.
  FeedForwardImpl(int64_t hidden_size, int64_t ffn_hidden_size, Activation activation, bool bias = false);
  /// x [..., D] -> the same shape.
  at::Tensor forward(const at::Tensor& x);

 private:
  Activation activation_;
  at::Tensor up_WD_;
  at::Tensor down_DF_;
  at::Tensor up_bias_W_;  ///< both undefined without biases
  at::Tensor down_bias_D_;
};
TORCH_MODULE(FeedForward);

}  // namespace switchyard
