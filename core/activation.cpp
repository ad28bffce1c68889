#include "core/activation.h"

#include "core/kernels/gated_kernels.h"

namespace switchyard {
namespace {

constexpr double kClampedSlope = kernels::kClampedSwigluSlope, kClampedLimit = kernels::kClampedSwigluLimit;

struct Halves {
  at::Tensor gate_RF;
  at::Tensor up_RF;
};

Halves halves(const at::Tensor& up_RW) {
  const int64_t width = up_RW.size(-1) / 2;
  return {up_RW.narrow(-1, 0, width), up_RW.narrow(-1, width, width)};
}

void clamped_swiglu_out(at::Tensor activation_RF, const Halves& in) {
  const auto gate = in.gate_RF.clamp_max(kClampedLimit);
  at::sigmoid_out(activation_RF, gate * kClampedSlope);
  activation_RF.mul_(gate).mul_(in.up_RF.clamp(-kClampedLimit, kClampedLimit) + 1.0);
}

void clamped_swiglu_backward_out(Halves grad, const at::Tensor& grad_activation_RF, const Halves& in) {
  const auto gate = in.gate_RF.clamp_max(kClampedLimit), up = in.up_RF.clamp(-kClampedLimit, kClampedLimit) + 1.0;
  const auto sigmoid = (gate * kClampedSlope).sigmoid();
  const auto slope = sigmoid * (1.0 + kClampedSlope * gate * (1.0 - sigmoid));
  // No gradient passes what a clamp holds.
  at::mul_out(grad.gate_RF, grad_activation_RF * up * slope, in.gate_RF <= kClampedLimit);
  at::mul_out(grad.up_RF, grad_activation_RF * gate * sigmoid, in.up_RF.abs() <= kClampedLimit);
}

/// gate(g) u, where `gate` is given as its two kernels.
template <class GateOut>
void gated_out(at::Tensor activation_RF, const Halves& in, GateOut gate_out) {
  gate_out(activation_RF, in.gate_RF);
  activation_RF.mul_(in.up_RF);
}

template <class GateOut, class GateBackwardOut>
void gated_backward_out(Halves grad, const at::Tensor& grad_activation_RF, const Halves& in, GateOut gate_out,
                        GateBackwardOut gate_backward_out) {
  gate_out(grad.up_RF, in.gate_RF);
  grad.up_RF.mul_(grad_activation_RF);
  gate_backward_out(grad.gate_RF, grad_activation_RF * in.up_RF, in.gate_RF);
}

void silu_out(at::Tensor out, const at::Tensor& x) {
  at::silu_out(out, x);
}
void silu_backward_out(at::Tensor out, const at::Tensor& grad, const at::Tensor& x) {
  at::silu_backward_out(out, grad, x);
}
void gelu_out(at::Tensor out, const at::Tensor& x) {
  at::gelu_out(out, x);
}
void gelu_backward_out(at::Tensor out, const at::Tensor& grad, const at::Tensor& x) {
  at::gelu_backward_out(out, grad, x);
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
  if (kernels::has_gated_kernel(kind, up_RW)) return kernels::gated_activation_out(activation_RF, up_RW, kind);
  switch (kind) {
    case Activation::kSwiglu:
      return gated_out(activation_RF, halves(up_RW), silu_out);
    case Activation::kGeglu:
      return gated_out(activation_RF, halves(up_RW), gelu_out);
    case Activation::kClampedSwiglu:
      return clamped_swiglu_out(activation_RF, halves(up_RW));
    case Activation::kGelu:
      at::gelu_out(activation_RF, up_RW);
      return;
    case Activation::kRelu:
      at::relu_out(activation_RF, up_RW);
      return;
  }
}

void activation_backward_out(at::Tensor grad_up_RW, const at::Tensor& grad_activation_RF, const at::Tensor& up_RW, Activation kind) {
  if (kernels::has_gated_kernel(kind, up_RW)) {
    return kernels::gated_activation_backward_out(grad_up_RW, {}, grad_activation_RF, up_RW, kind);
  }
  switch (kind) {
    case Activation::kSwiglu:
      return gated_backward_out(halves(grad_up_RW), grad_activation_RF, halves(up_RW), silu_out, silu_backward_out);
    case Activation::kGeglu:
      return gated_backward_out(halves(grad_up_RW), grad_activation_RF, halves(up_RW), gelu_out, gelu_backward_out);
    case Activation::kClampedSwiglu:
      return clamped_swiglu_backward_out(halves(grad_up_RW), grad_activation_RF, halves(up_RW));
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
  if (kernels::has_gated_kernel(kind, up_RW)) {
    return kernels::gated_activation_backward_out(grad_up_RW, activation_RF, grad_activation_RF, up_RW, kind);
  }
  activation_out(activation_RF, up_RW, kind);
  activation_backward_out(grad_up_RW, grad_activation_RF, up_RW, kind);
}

at::Tensor activate(const at::Tensor& up_RW, Activation kind) {
  return Activate::apply(up_RW, static_cast<int64_t>(kind));
}

}  // namespace switchyard
