#include "core/activation.h"

#include "core/kernels/gated_kernels.h"

namespace switchyard {
namespace {

struct Halves {
  at::Tensor gate_RF;
  at::Tensor up_RF;
};

Halves halves(const at::Tensor& up_RW) {
  const int64_t width = up_RW.size(-1) / 2;
  return {up_RW.narrow(-1, 0, width), up_RW.narrow(-1, width, width)};
}

void geglu_out(at::Tensor activation_RF, const Halves& in) {
  at::gelu_out(activation_RF, in.gate_RF);
  activation_RF.mul_(in.up_RF);
}

void geglu_backward_out(Halves grad, const at::Tensor& grad_activation_RF, const Halves& in) {
  at::gelu_out(grad.up_RF, in.gate_RF);
  grad.up_RF.mul_(grad_activation_RF);
  at::gelu_backward_out(grad.gate_RF, grad_activation_RF * in.up_RF, in.gate_RF);
}

struct Activate : torch::autograd::Function<Activate> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& up_RW, int64_t kind) {
    auto shape = up_RW.sizes().vec();
    if (is_gated(static_cast<Activation>(kind))) shape.back() /= 2;
    auto activation = at::empty(shape, up_RW.options());
    activation_out(activation, up_RW, static_cast<Activation>(kind));
    context->save_for_backward({up_RW});
    context->saved_data["kind"] = kind;
    return activation;
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context, const torch::autograd::tensor_list& grads) {
    const auto up = context->get_saved_variables()[0];
    auto grad_up = at::empty_like(up);
    activation_backward_out(grad_up, grads[0], up, static_cast<Activation>(context->saved_data["kind"].toInt()));
    return {grad_up, {}};
  }
};

}  // namespace

bool is_gated(Activation kind) {
  return kind != Activation::kGelu && kind != Activation::kRelu;
}

void activation_out(at::Tensor activation_RF, const at::Tensor& up_RW, Activation kind) {
  switch (kind) {
    case Activation::kSwiglu:
    case Activation::kClampedSwiglu:
      return kernels::gated_activation_out(activation_RF, up_RW, kind);
    case Activation::kGeglu:
      return geglu_out(activation_RF, halves(up_RW));
    case Activation::kGelu:
      at::gelu_out(activation_RF, up_RW);
      return;
    case Activation::kRelu:
      at::relu_out(activation_RF, up_RW);
      return;
  }
}

void activation_backward_out(at::Tensor grad_up_RW, const at::Tensor& grad_activation_RF, const at::Tensor& up_RW, Activation kind) {
  switch (kind) {
    case Activation::kSwiglu:
    case Activation::kClampedSwiglu:
      return kernels::gated_activation_backward_out(grad_up_RW, {}, grad_activation_RF, up_RW, kind);
    case Activation::kGeglu:
      return geglu_backward_out(halves(grad_up_RW), grad_activation_RF, halves(up_RW));
    case Activation::kGelu:
      at::gelu_backward_out(grad_up_RW, grad_activation_RF, up_RW);
      return;
    case Activation::kRelu:
      at::threshold_backward_out(grad_up_RW, grad_activation_RF, up_RW, 0);
      return;
  }
}

void activation_and_backward_out(at::Tensor activation_RF, at::Tensor grad_up_RW, const at::Tensor& grad_activation_RF,
                                 const at::Tensor& up_RW, Activation kind) {
  if (kind == Activation::kSwiglu || kind == Activation::kClampedSwiglu) {
    return kernels::gated_activation_backward_out(grad_up_RW, activation_RF, grad_activation_RF, up_RW, kind);
  }
  activation_out(activation_RF, up_RW, kind);
  activation_backward_out(grad_up_RW, grad_activation_RF, up_RW, kind);
}

at::Tensor activate(const at::Tensor& up_RW, Activation kind) {
  return Activate::apply(up_RW, static_cast<int64_t>(kind));
}

}  // namespace switchyard
