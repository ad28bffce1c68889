// The router of one MoE layer: one linear map to E logits, then a routing rule.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/model_config.h"
#include "core/routing/routing_rule.h"

namespace switchyard {

struct RouterOutput {
  RoutingDecision decision;
  at::Tensor logits_TE;  ///< max(fp32, run dtype), differentiable
};

class RouterImpl : public torch::nn::Module {
 public:
  RouterImpl(const MoeConfig& config, int64_t hidden_size);
  /// x_TD: tokens are the rows of [B, S] in order. All arithmetic in max(fp32, run dtype). In training with input_jitter j the router (and
  /// only the router) sees x * U[1 - j, 1 + j].
  RouterOutput forward(const at::Tensor& x_TD, const TokenContext& context);

 private:
  MoeConfig config_;
  RoutingRule rule_;
  at::Tensor weight_ED_;
};
TORCH_MODULE(Router);

}  // namespace switchyard
