// A recurrent sequence mixer: long short-term memory (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000), as
// between the MoE layers of Shazeer et al. 2017 (arXiv:1701.06538).
#pragma once

#include <torch/nn/pimpl.h>

#include "core/sequence_mixer.h"

namespace switchyard {

class LstmImpl : public SequenceMixerModule {
 public:
  /// Parameters: input [4 D, D], recurrent [4 D, D], bias [4 D]; rows are the input, forget, cell and output gates.
  explicit LstmImpl(int64_t hidden_size);
  /// context.document_BS: the state starts anew with every document.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state) override;

 private:
  at::Tensor input_, recurrent_, bias_;
};
TORCH_MODULE(Lstm);

}  // namespace switchyard
