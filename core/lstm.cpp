#include "core/lstm.h"

namespace switchyard {
namespace {

/// 1 where a token belongs to the document of the one before it, else 0. The first token of the pass: of the one that stands before the
/// pass. Undefined where there is one document.
at::Tensor goes_on_BS1(const TokenContext& context, const AttentionPlan& plan, at::ScalarType dtype) {
  const auto& document_BS = context.document_BS;
  if (!document_BS.defined()) return {};
  const auto before_B1 = plan.past_document_B1.defined() ? plan.past_document_B1 : document_BS.narrow(1, 0, 1);
  return document_BS.diff(1, 1, before_B1).eq(0).to(dtype).unsqueeze(-1);
}

}  // namespace

LstmImpl::LstmImpl(int64_t hidden_size)
    : input_(register_parameter("input", at::empty({4 * hidden_size, hidden_size}))),
      recurrent_(register_parameter("recurrent", at::empty({4 * hidden_size, hidden_size}))),
      bias_(register_parameter("bias", at::empty({4 * hidden_size}))) {}

at::Tensor LstmImpl::forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state) {
  const int64_t B = x_BSD.size(0), S = x_BSD.size(1), D = x_BSD.size(2);
  const auto from_input = at::linear(x_BSD, input_, bias_).unbind(1);
  const auto goes_on = goes_on_BS1(context, plan, x_BSD.scalar_type());
  const bool has_past = state != nullptr && state->first.defined();
  auto hidden_BD = has_past ? state->first : at::zeros({B, D}, x_BSD.options()), cell_BD = has_past ? state->second : hidden_BD;
  std::vector<at::Tensor> outputs;
  for (int64_t s = 0; s < S; ++s) {
    if (goes_on.defined()) {
      hidden_BD = hidden_BD * goes_on.select(1, s);
      cell_BD = cell_BD * goes_on.select(1, s);
    }
    const auto gates = (from_input[static_cast<size_t>(s)] + at::linear(hidden_BD, recurrent_)).chunk(4, 1);
    cell_BD = gates[1].sigmoid() * cell_BD + gates[0].sigmoid() * gates[2].tanh();
    hidden_BD = gates[3].sigmoid() * cell_BD.tanh();
    outputs.push_back(hidden_BD);
  }
  if (state != nullptr) *state = {hidden_BD, cell_BD};
  return at::stack(outputs, 1);
}

}  // namespace switchyard
