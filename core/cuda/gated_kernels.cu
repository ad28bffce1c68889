#include "core/cuda/gated_kernels.h"

#include <ATen/Dispatch.h>

#include "core/cuda/launch.cuh"
#include "core/kernels/gated_formulas.h"
#include "core/kernels/rows.h"

namespace switchyard::cuda {
namespace {

using kernels::narrowed;
using kernels::Rows;
using kernels::Wide;
using kernels::widened;

template <typename scalar_t, class Formula>
struct GatedForward {
  __device__ void operator()(int64_t r, int64_t f) const {
    const int64_t width = activation.width();
    const scalar_t* gate = up[r] + f;
    activation[r][f] = narrowed<scalar_t>(Formula::activation(widened(gate[0]), widened(gate[width])));
  }

  Rows<scalar_t> activation;
  Rows<const scalar_t> up;
};

template <typename scalar_t, class Formula, bool kWritesActivation>
struct GatedBackward {
  __device__ void operator()(int64_t r, int64_t f) const {
    const int64_t width = grad_activation.width();
    const scalar_t* gate = up[r] + f;
    scalar_t* grad_gate = grad_up[r] + f;
    const auto results = Formula::backward(widened(grad_activation[r][f]), widened(gate[0]), widened(gate[width]));
    grad_gate[0] = narrowed<scalar_t>(results.grad_gate);
    grad_gate[width] = narrowed<scalar_t>(results.grad_up);
    if constexpr (kWritesActivation) activation[r][f] = narrowed<scalar_t>(results.activation);
  }

  Rows<scalar_t> grad_up, activation;
  Rows<const scalar_t> grad_activation, up;
};

template <template <typename> class Formula>
void run_forward(const at::Tensor& activation, const at::Tensor& up) {
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, up.scalar_type(), "gated_activation", [&] {
    const GatedForward<scalar_t, Formula<Wide<scalar_t>>> body{Rows<scalar_t>(activation), Rows<const scalar_t>(up)};
    for_each_place(up.device(), body.up.num_rows(), body.activation.width(), body);
  });
}

template <template <typename> class Formula, bool kWritesActivation>
void run_backward(const at::Tensor& grad_up, const at::Tensor& activation, const at::Tensor& grad_activation, const at::Tensor& up) {
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, up.scalar_type(), "gated_activation_backward", [&] {
    const GatedBackward<scalar_t, Formula<Wide<scalar_t>>, kWritesActivation> body{
        Rows<scalar_t>(grad_up), Rows<scalar_t>(activation), Rows<const scalar_t>(grad_activation), Rows<const scalar_t>(up)};
    for_each_place(up.device(), body.up.num_rows(), body.grad_activation.width(), body);
  });
}

template <template <typename> class Formula>
void run_backward(const at::Tensor& grad_up, const at::Tensor& activation, const at::Tensor& grad_activation, const at::Tensor& up) {
  // Without an activation to write, any rows will do in its place.
  activation.defined() ? run_backward<Formula, true>(grad_up, activation, grad_activation, up)
                       : run_backward<Formula, false>(grad_up, grad_up, grad_activation, up);
}

}  // namespace

void gated_activation_out(const at::Tensor& activation, const at::Tensor& up, Activation kind) {
  kind == Activation::kSwiglu ? run_forward<kernels::SwigluFormula>(activation, up)
                              : run_forward<kernels::ClampedSwigluFormula>(activation, up);
}

void gated_activation_backward_out(const at::Tensor& grad_up, const at::Tensor& activation, const at::Tensor& grad_activation,
                                   const at::Tensor& up, Activation kind) {
  kind == Activation::kSwiglu ? run_backward<kernels::SwigluFormula>(grad_up, activation, grad_activation, up)
                              : run_backward<kernels::ClampedSwigluFormula>(grad_up, activation, grad_activation, up);
}

}  // namespace switchyard::cuda
