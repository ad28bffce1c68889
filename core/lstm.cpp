#include "core/lstm.h"

namespace switchyard {

LstmImpl::LstmImpl(int64_t hidden_size)
    : input_(register_parameter("input", at::empty({4 * hidden_size, hidden_size}))),
      recurrent_(register_parameter("recurrent", at::empty({4 * hidden_size, hidden_size}))),
      bias_(register_parameter("bias", at::empty({4 * hidden_size}))) {}

at::Tensor LstmImpl::forward(const at::Tensor& x_BSD, const at::Tensor& document_BS) {
  const int64_t B = x_BSD.size(0), S = x_BSD.size(1), D = x_BSD.size(2);
  const auto from_input = at::linear(x_BSD, input_, bias_).unbind(1);
  const auto goes_on = document_BS.defined() ? document_BS.diff(1, 1).eq(0).to(x_BSD.scalar_type()).unsqueeze(-1) : at::Tensor();
  auto hidden_BD = at::zeros({B, D}, x_BSD.options()), cell_BD = hidden_BD;
  std::vector<at::Tensor> outputs;
  for (int64_t s = 0; s < S; ++s) {
    if (s > 0 && goes_on.defined()) {
      hidden_BD = hidden_BD * goes_on.select(1, s - 1);
      cell_BD = cell_BD * goes_on.select(1, s - 1);
    }
    const auto gates = (from_input[static_cast<size_t>(s)] + at::linear(hidden_BD, recurrent_)).chunk(4, 1);
    cell_BD = gates[1].sigmoid() * cell_BD + gates[0].sigmoid() * gates[2].tanh();
    hidden_BD = gates[3].sigmoid() * cell_BD.tanh();
    outputs.push_back(hidden_BD);
  }
  return at::stack(outputs, 1);
}

}  // namespace switchyard
