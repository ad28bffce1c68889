// Experts on a GPU: a call for all of them at each step.
#include <ATen/ATen.h>

#include "core/activation.h"
#include "core/expert_computation.h"
#include "core/grouped_products.h"

namespace switchyard {
namespace {

at::Tensor activation_like(const at::Tensor& up_RW, const at::Tensor& down_eDF) {
  return at::empty({up_RW.size(0), down_eDF.size(2)}, up_RW.options());
}

}  // namespace

ExpertOutputs outputs_by_groups(const ExpertComputation& computation) {
  const auto& weights = computation.weights;
  const ExpertGroups groups(computation.row_counts_e, computation.x_RD.device());
  auto up_RW = groups.rows(computation.x_RD, weights.up_eWD.transpose(1, 2));
  if (weights.up_bias_eW.defined()) up_RW.add_(groups.by_row(weights.up_bias_eW));
  auto activation_RF = activation_like(up_RW, weights.down_eDF);
  activation_out(activation_RF, up_RW, computation.activation);
  if (computation.dropout_RF.defined()) activation_RF.mul_(computation.dropout_RF);
  auto y_RD = groups.rows(activation_RF, weights.down_eDF.transpose(1, 2));
  if (weights.down_bias_eD.defined()) y_RD.add_(groups.by_row(weights.down_bias_eD));
  return {y_RD, up_RW};
}

ExpertGradients gradients_by_groups(const ExpertComputation& computation, const at::Tensor& up_RW, const at::Tensor& grad_y_RD) {
  const auto& weights = computation.weights;
  const ExpertGroups groups(computation.row_counts_e, computation.x_RD.device());
  auto grad_activation_RF = groups.rows(grad_y_RD, weights.down_eDF);
  if (computation.dropout_RF.defined()) grad_activation_RF.mul_(computation.dropout_RF);
  auto activation_RF = activation_like(up_RW, weights.down_eDF), grad_up_RW = at::empty_like(up_RW);
  activation_and_backward_out(activation_RF, grad_up_RW, grad_activation_RF, up_RW, computation.activation);
  if (computation.dropout_RF.defined()) activation_RF.mul_(computation.dropout_RF);
  return {groups.rows(grad_up_RW, weights.up_eWD), groups.matrices(grad_up_RW, computation.x_RD, weights.up_sum_eWD),
          groups.matrices(grad_y_RD, activation_RF, weights.down_sum_eDF),
          sums_by_expert(weights.up_bias_eW, grad_up_RW, computation.row_counts_e),
          sums_by_expert(weights.down_bias_eD, grad_y_RD, computation.row_counts_e)};
}

}  // namespace switchyard
