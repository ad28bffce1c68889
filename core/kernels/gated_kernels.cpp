#include "core/kernels/gated_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "core/cuda/gated_kernels.h"
#include "core/kernels/arithmetic.h"
#include "core/kernels/gated_formulas.h"
#include "core/kernels/rows.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

template <typename scalar_t, class Formula>
struct GatedForward {
  SWITCHYARD_INLINED void row(int64_t r) const {
    const int64_t width = activation.width();
    const scalar_t *gate = up[r], *value = gate + width;
    scalar_t* out = activation[r];
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) out[f] = narrowed<scalar_t>(Formula::activation(widened(gate[f]), widened(value[f])));
  }

  Rows<scalar_t> activation;
  Rows<const scalar_t> up;
};

template <typename scalar_t, class Formula, bool kWritesActivation>
struct GatedBackward {
  SWITCHYARD_INLINED void row(int64_t r) const {
    const int64_t width = grad_activation.width();
    const scalar_t *grad = grad_activation[r], *gate = up[r], *value = gate + width;
    scalar_t *grad_gate = grad_up[r], *grad_value = grad_gate + width;
    scalar_t* out = kWritesActivation ? activation[r] : nullptr;
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) {
      const auto results = Formula::backward(widened(grad[f]), widened(gate[f]), widened(value[f]));
      grad_gate[f] = narrowed<scalar_t>(results.grad_gate);
      grad_value[f] = narrowed<scalar_t>(results.grad_up);
      if constexpr (kWritesActivation) out[f] = narrowed<scalar_t>(results.activation);
    }
  }

  Rows<scalar_t> grad_up, activation;
  Rows<const scalar_t> grad_activation, up;
};

template <template <typename> class Formula>
void run_gated_forward(const at::Tensor& activation, const at::Tensor& up) {
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, up.scalar_type(), "gated_activation", [&] {
    const GatedForward<scalar_t, Formula<Wide<scalar_t>>> kernel{Rows<scalar_t>(activation), Rows<const scalar_t>(up)};
    for_each_row(kernel.up.num_rows(), kernel.up.width(), kernel);
  });
}

template <template <typename> class Formula, bool kWritesActivation>
void run_gated_backward(const at::Tensor& grad_up, const at::Tensor& activation, const at::Tensor& grad_activation, const at::Tensor& up) {
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, up.scalar_type(), "gated_activation_backward", [&] {
    const GatedBackward<scalar_t, Formula<Wide<scalar_t>>, kWritesActivation> kernel{
        Rows<scalar_t>(grad_up), Rows<scalar_t>(activation), Rows<const scalar_t>(grad_activation), Rows<const scalar_t>(up)};
    for_each_row(kernel.up.num_rows(), kernel.up.width(), kernel);
  });
}

template <template <typename> class Formula>
void run_gated_backward(const at::Tensor& grad_up, const at::Tensor& activation, const at::Tensor& grad_activation, const at::Tensor& up) {
  // Without an activation to write, any rows will do in its place.
  activation.defined() ? run_gated_backward<Formula, true>(grad_up, activation, grad_activation, up)
                       : run_gated_backward<Formula, false>(grad_up, grad_up, grad_activation, up);
}

/// What a kernel writes to: `out`, or dense rows that are copied to it in the end.
class WrittenRows {
 public:
  explicit WrittenRows(const at::Tensor& out) : out_(out) {
    if (out.defined()) rows_ = RowLayout::fits(out) ? out : at::empty(out.sizes(), out.options());
  }
  const at::Tensor& rows() const { return rows_; }
  void finish() {
    if (!rows_.is_same(out_)) out_.copy_(rows_);
  }

 private:
  at::Tensor out_, rows_;
};

void check_gated(const at::Tensor& activation, const at::Tensor& up, const char* name) {
  TORCH_CHECK(activation.dim() == up.dim() && activation.size(-1) * 2 == up.size(-1) && activation.numel() * 2 == up.numel(),
              "gated activation: ", name, " ", activation.sizes(), " does not fit [gate | up] ", up.sizes());
  TORCH_CHECK(activation.scalar_type() == up.scalar_type() && activation.device() == up.device(), "gated activation: ", name, " is ",
              activation.scalar_type(), " on ", activation.device(), ", [gate | up] ", up.scalar_type(), " on ", up.device());
}

}  // namespace

void gated_activation_out(at::Tensor activation, const at::Tensor& up, Activation kind) {
  check_gated(activation, up, "activation");
  WrittenRows out(activation);
  const auto in = with_dense_rows(up);
  if (in.is_cuda()) {
    cuda::gated_activation_out(out.rows(), in, kind);
  } else if (kind == Activation::kSwiglu) {
    run_gated_forward<SwigluFormula>(out.rows(), in);
  } else {
    run_gated_forward<ClampedSwigluFormula>(out.rows(), in);
  }
  out.finish();
}

void gated_activation_backward_out(at::Tensor grad_up, at::Tensor activation, const at::Tensor& grad_activation, const at::Tensor& up,
                                   Activation kind) {
  check_gated(grad_activation, up, "its gradient");
  TORCH_CHECK(grad_up.sizes() == up.sizes() && grad_up.scalar_type() == up.scalar_type(), "gated activation: gradient of ", up.sizes(),
              " into ", grad_up.sizes());
  if (activation.defined()) check_gated(activation, up, "activation");
  WrittenRows out(grad_up), again(activation);
  const auto grad = with_dense_rows(grad_activation), in = with_dense_rows(up);
  if (in.is_cuda()) {
    cuda::gated_activation_backward_out(out.rows(), again.rows(), grad, in, kind);
  } else if (kind == Activation::kSwiglu) {
    run_gated_backward<SwigluFormula>(out.rows(), again.rows(), grad, in);
  } else {
    run_gated_backward<ClampedSwigluFormula>(out.rows(), again.rows(), grad, in);
  }
  out.finish();
  again.finish();
}

}  // namespace switchyard::kernels
