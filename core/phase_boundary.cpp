#include "core/phase_boundary.h"

#include <torch/torch.h>

namespace switchyard {
namespace {

struct PhaseBoundary : torch::autograd::Function<PhaseBoundary> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, PhaseObserver* observer, int64_t before,
                            int64_t layer) {
    context->saved_data["observer"] = reinterpret_cast<int64_t>(observer);
    context->saved_data["before"] = before;
    context->saved_data["layer"] = layer;
    return x.alias();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto* observer = reinterpret_cast<PhaseObserver*>(context->saved_data["observer"].toInt());
    observer->enter_backward(static_cast<Phase>(context->saved_data["before"].toInt()), context->saved_data["layer"].toInt());
    return {grads[0], {}, {}, {}};
  }
};

}  // namespace

at::Tensor phase_boundary(const at::Tensor& x, const TokenContext& context, Phase before, Phase after) {
  auto* observer = context.observer;
  if (observer == nullptr) return x;
  const auto passed =
      at::GradMode::is_enabled() && x.requires_grad() ? PhaseBoundary::apply(x, observer, static_cast<int64_t>(before), context.layer) : x;
  observer->enter(after, context.layer);
  return passed;
}

}  // namespace switchyard
