// A recurrent sequence mixer: long short-term memory (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000), as
// between the MoE layers of Shazeer et al. 2017 (arXiv:1701.06538).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace switchyard {

class LstmImpl : public torch::nn::Module {
 public:
  /// Parameters: input [4 D, D], recurrent [4 D, D], bias [4 D]; rows are the input, forget, cell and output gates.
  explicit LstmImpl(int64_t hidden_size);
  /// x_BSD -> the same shape; causal by nature. document_BS as in TokenContext: the state starts anew with every document. Undefined = one.
  at::Tensor forward(const at::Tensor& x_BSD, const at::Tensor& document_BS);

 private:
  at::Tensor input_, recurrent_, bias_;
};
TORCH_MODULE(Lstm);

}  // namespace switchyard
