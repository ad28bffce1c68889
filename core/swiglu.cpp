#include "core/swiglu.h"

namespace switchyard {
namespace {

struct Halves {
  at::Tensor gate_RF;
  at::Tensor up_RF;
};

Halves halves(const at::Tensor& gate_up_R2F) {
  const int64_t width = gate_up_R2F.size(-1) / 2;
  return {gate_up_R2F.narrow(-1, 0, width), gate_up_R2F.narrow(-1, width, width)};
}

struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate_up_R2F) {
    auto shape = gate_up_R2F.sizes().vec();
    shape.back() /= 2;
    auto activation = at::empty(shape, gate_up_R2F.options());
    swiglu_out(activation, gate_up_R2F);
    context->save_for_backward({gate_up_R2F});
    return activation;
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context, const torch::autograd::tensor_list& grads) {
    const auto gate_up = context->get_saved_variables()[0];
    auto grad_gate_up = at::empty_like(gate_up);
    swiglu_backward_out(grad_gate_up, grads[0], gate_up);
    return {grad_gate_up};
  }
};

}  // namespace

void swiglu_out(at::Tensor activation_RF, const at::Tensor& gate_up_R2F) {
  const auto [gate, up] = halves(gate_up_R2F);
  at::silu_out(activation_RF, gate);
  activation_RF.mul_(up);
}

void swiglu_backward_out(at::Tensor grad_gate_up_R2F, const at::Tensor& grad_activation_RF, const at::Tensor& gate_up_R2F) {
  const auto [gate, up] = halves(gate_up_R2F);
  auto [grad_gate, grad_up] = halves(grad_gate_up_R2F);
  at::silu_out(grad_up, gate);
  grad_up.mul_(grad_activation_RF);
  at::silu_backward_out(grad_gate, grad_activation_RF * up, gate);
}

at::Tensor swiglu(const at::Tensor& gate_up_R2F) {
  return Swiglu::apply(gate_up_R2F);
}

}  // namespace switchyard
