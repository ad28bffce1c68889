// Root mean square norm (Zhang and Sennrich 2019, arXiv:1910.07467): w * x / sqrt(mean(x^2) + eps), computed in max(fp32, run dtype).
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace switchyard {

/// x / sqrt(mean(x^2) + eps) over the last dimension, in x's dtype.
at::Tensor rms_normed(const at::Tensor& x, double eps);

class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(int64_t width, double eps);
  /// x [..., D] -> the same shape and dtype.
  at::Tensor forward(const at::Tensor& x);

 private:
  double eps_;
  at::Tensor weight_D_;
};
TORCH_MODULE(RmsNorm);

}  // namespace switchyard
