// The router of one MoE layer: the linear maps that a routing rule wants, then the rule.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/model_config.h"
#include "core/routing/routing_rule.h"

namespace switchyard {

struct RouterOutput {
  RoutingDecision decision;
  RouterLogits logits;
};

class RouterImpl : public torch::nn::Module {
 public:
  /// Parameters: weight [E, D] and bias [E] (with router_bias), noise_weight [E, D], group_weight and group_noise_weight [G, D], as far as
  /// the rule wants them. Buffer, with bias_update: selection_bias [E], zeros.
  RouterImpl(const MoeConfig& config, int64_t hidden_size);
  /// x_TD: tokens are the rows of [B, S] in order. All arithmetic in max(fp32, run dtype). In training with input_jitter j the router (and
  /// only the router) sees x * U[1 - j, 1 + j].
  RouterOutput forward(const at::Tensor& x_TD, const TokenContext& context);

  /// fp32 [E], not trained by gradients: loss-free balancing moves it (arXiv:2408.15664). Undefined without bias_update.
  const at::Tensor& selection_bias() const { return selection_bias_E_; }

 private:
  at::Tensor jittered(const at::Tensor& x_TD, const TokenContext& context) const;

  MoeConfig config_;
  RoutingRule rule_;
  at::Tensor weight_ED_, bias_E_, noise_weight_ED_, group_weight_GD_, group_noise_weight_GD_;  ///< undefined where not wanted
  at::Tensor selection_bias_E_;
};
TORCH_MODULE(Router);

}  // namespace switchyard
