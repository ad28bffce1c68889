#include "training/optimizer.h"

namespace switchyard {
namespace {

struct Range {
  int64_t begin;
  int64_t end;
  double weight_decay;
};

void update_range(ParameterGroup& group, const Range& range, const OptimizerConfig& config, double learning_rate, const at::Tensor& step) {
  if (range.begin == range.end) return;
  const auto part = [&](const at::Tensor& buffer) { return buffer.narrow(0, range.begin, range.end - range.begin); };
  at::_fused_adamw_({part(group.master)}, {part(group.gradients)}, {part(group.exp_avg)}, {part(group.exp_avg_sq)}, /*max_exp_avg_sqs=*/{},
                    {step}, learning_rate, config.beta1, config.beta2, range.weight_decay, config.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace

void adamw_step(ParameterStore& store, const OptimizerConfig& config, double learning_rate, int64_t step, double gradient_scale) {
  at::NoGradGuard no_grad;
  for (auto& group : store.groups()) {
    if (gradient_scale != 1.0) group.gradients.mul_(gradient_scale);
    const auto step_tensor = at::full({}, static_cast<double>(step), at::dtype(at::kFloat).device(group.master.device()));
    update_range(group, {0, group.decaying_numel, config.weight_decay}, config, learning_rate, step_tensor);
    update_range(group, {group.decaying_numel, group.master.numel(), 0.0}, config, learning_rate, step_tensor);
  }
  store.refresh_weights();
}

}  // namespace switchyard
