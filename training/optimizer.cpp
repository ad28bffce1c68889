#include "training/optimizer.h"

#include "core/kernels/optimizer_kernels.h"

namespace switchyard {
namespace {

/// On devices that the kernels do not serve; the weights beside a master are left to ParameterStore::refresh_weights().
void update_by_operators(const kernels::AdamwBuffers& buffers, const kernels::AdamwNumbers& numbers) {
  const auto options = at::dtype(at::kFloat).device(buffers.master.device());
  const auto step = at::full({}, numbers.step, options);
  if (numbers.gradient_scale != 1.0) at::Tensor(buffers.gradients).mul_(numbers.gradient_scale);
  at::_fused_adamw_({buffers.master}, {buffers.gradients}, {buffers.exp_avg}, {buffers.exp_avg_sq}, /*max_exp_avg_sqs=*/{}, {step},
                    numbers.learning_rate, numbers.beta1, numbers.beta2, numbers.weight_decay, numbers.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

/// What of `range` is held here.
void update_range(ParameterGroup& group, const FlatRange& range, const kernels::AdamwNumbers& numbers) {
  const auto held = intersection(range, group.state);
  if (held.numel() == 0) return;
  const auto part = [&](const at::Tensor& buffer) { return group.of_state(buffer, held); };
  const kernels::AdamwBuffers buffers{part(group.master), ParameterGroup::of_whole(group.gradients, held), part(group.exp_avg),
                                      part(group.exp_avg_sq),
                                      group.has_own_master() ? ParameterGroup::of_whole(group.weights, held) : at::Tensor()};
  group.master.is_cpu() ? kernels::adamw(buffers, numbers) : update_by_operators(buffers, numbers);
}

}  // namespace

void adamw_step(ParameterStore& store, const OptimizerConfig& config, double learning_rate, int64_t step, double gradient_scale) {
  at::NoGradGuard no_grad;
  kernels::AdamwNumbers numbers{.learning_rate = learning_rate,
                                .beta1 = config.beta1,
                                .beta2 = config.beta2,
                                .eps = config.eps,
                                .weight_decay = config.weight_decay,
                                .gradient_scale = gradient_scale,
                                .step = static_cast<double>(step)};
  for (auto& group : store.groups()) {
    numbers.weight_decay = config.weight_decay;
    update_range(group, {0, group.decaying_numel}, numbers);
    numbers.weight_decay = 0.0;
    update_range(group, {group.decaying_numel, group.weights.numel()}, numbers);
  }
  if (!store.device().is_cpu()) store.refresh_weights();
}

}  // namespace switchyard
