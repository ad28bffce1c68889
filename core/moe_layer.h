// The Mixture-of-Experts block: router -> capacity -> dispatch -> experts -> combine, plus the shared expert beside them.
#pragma once

#include <memory>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/dispatcher.h"
#include "core/execution_config.h"
#include "core/experts.h"
#include "core/feed_forward.h"
#include "core/router.h"

namespace switchyard {

struct MoeOutput {
  at::Tensor y_BSD;
  RoutingStatistics statistics;
};

class MoeLayerImpl : public torch::nn::Module {
 public:
  /// `dispatcher` says which experts stand here, and in how many chunks rows travel; it may be shared between layers.
  MoeLayerImpl(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher, const ExecutionConfig& execution = {});
  /// x_BSD -> y of the same shape (without the residual) and what was routed. Tokens that lost every expert come out as zero.
  /// Collective over the dispatcher's ranks.
  MoeOutput forward(const at::Tensor& x_BSD, const TokenContext& context);

  const Experts& experts() const { return experts_; }
  const TokenDispatcher& dispatcher() const { return *dispatcher_; }

 private:
  /// The sum of every token's experts, the shared one too.
  at::Tensor apply_experts_to(const at::Tensor& x_TD, const Routing& kept, const TokenContext& context);
  at::Tensor shared_output(const at::Tensor& x_TD);

  MoeConfig config_;
  bool overlap_shared_expert_;
  std::shared_ptr<TokenDispatcher> dispatcher_;
  Router router_{nullptr};
  Experts experts_{nullptr};
  FeedForward shared_expert_{nullptr};
  at::Tensor shared_gate_1D_;
};
TORCH_MODULE(MoeLayer);

}  // namespace switchyard
