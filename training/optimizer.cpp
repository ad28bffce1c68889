#include "training/optimizer.h"

namespace switchyard {
namespace {

/// What of `range` is held here.
void update_range(ParameterGroup& group, const FlatRange& range, double weight_decay, const OptimizerConfig& config, double learning_rate,
                  const at::Tensor& step) {
  const auto held = intersection(range, group.state);
  if (held.numel() == 0) return;
  const auto part = [&](const at::Tensor& buffer) { return group.of_state(buffer, held); };
  at::_fused_adamw_({part(group.master)}, {ParameterGroup::of_whole(group.gradients, held)}, {part(group.exp_avg)},
                    {part(group.exp_avg_sq)},
                    /*max_exp_avg_sqs=*/{}, {step}, learning_rate, config.beta1, config.beta2, weight_decay, config.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace

void adamw_step(ParameterStore& store, const OptimizerConfig& config, double learning_rate, int64_t step, double gradient_scale) {
  at::NoGradGuard no_grad;
  for (auto& group : store.groups()) {
    if (gradient_scale != 1.0) ParameterGroup::of_whole(group.gradients, group.state).mul_(gradient_scale);
    const auto step_tensor = at::full({}, static_cast<double>(step), at::dtype(at::kFloat).device(group.master.device()));
    update_range(group, {0, group.decaying_numel}, config.weight_decay, config, learning_rate, step_tensor);
    update_range(group, {group.decaying_numel, group.weights.numel()}, 0.0, config, learning_rate, step_tensor);
  }
  store.refresh_weights();
}

}  // namespace switchyard
