// The dense feed-forward block: down(swiglu(gate_up x)). Also the shared expert of an MoE layer.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace switchyard {

class FeedForwardImpl : public torch::nn::Module {
 public:
  FeedForwardImpl(int64_t hidden_size, int64_t ffn_hidden_size);
  /// x [..., D] -> the same shape.
  at::Tensor forward(const at::Tensor& x);

 private:
  at::Tensor gate_up_2FD_;
  at::Tensor down_DF_;
};
TORCH_MODULE(FeedForward);

}  // namespace switchyard
