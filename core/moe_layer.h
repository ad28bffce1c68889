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

/// How the first dimension of an MoE layer's expert parameters counts, those inside nested experts one by one.
struct HeldExperts {
  int64_t num_experts = 0;  ///< of the whole model's layer
  int64_t first = 0;        ///< the first one here
};

struct MoeOutput {
  at::Tensor y_BSD;
  RoutingStatistics statistics;
};

class MoeLayerImpl : public torch::nn::Module {
  /// Sums of the gates inside the experts held here, chunk by chunk.
  struct NestedSums {
    std::vector<at::Tensor> assigned_M;
    std::vector<at::Tensor> probability_M;
  };

 public:
  /// Of `config` it reads hidden_size = D and moe. `dispatcher` says which experts stand here, and in how many chunks rows travel; it must
  /// be for moe.num_experts experts, and may be shared between layers. Parameters are allocated in fp32 on the CPU and not yet initialised:
  /// initialize_parameters() or the caller fills them (core/parameters_by_name.h lists them). Errors: c10::Error for a configuration
  /// without experts, or one that its routing rule refuses.
  MoeLayerImpl(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher, const ExecutionConfig& execution = {});
  /// x_BSD, of the parameters' dtype and device -> y of the same shape (without the residual) and what was routed. Tokens that lost every
  /// expert come out as zero. `context` must have global_sample_B, and `training` where capacity, noise and dropout are to be those of
  /// training; what rules need beside is said there.
  /// Collective over the dispatcher's ranks, and so is backward: every rank must call both, in the same order, with any number of tokens.
  MoeOutput forward(const at::Tensor& x_BSD, const TokenContext& context);

  const Router& router() const { return router_; }
  const Experts& experts() const { return experts_; }
  HeldExperts held_experts() const;

 private:
  /// The sum of every token's experts, the shared one too.
  at::Tensor apply_experts_to(const at::Tensor& x_TD, const Routing& kept, const TokenContext& context, NestedSums& nested);
  at::Tensor outputs_of(const ExpertRows& input, const ExpertWeights& weights, const TokenContext& context, NestedSums& nested) const;
  std::unique_ptr<DispatchTicket> begin_dispatch(const at::Tensor& x_TD, const Routing& kept, const TokenContext& context);
  /// What tells the tokens of the step apart; undefined where nobody asks.
  at::Tensor row_labels(const TokenContext& context) const;
  /// [R, F], 0 or 1 / (1 - expert_dropout); undefined without dropout.
  at::Tensor dropout_of(const ExpertRows& input, const TokenContext& context) const;
  at::Tensor joined(const at::Tensor& x_TD, const at::Tensor& y_TD, const at::Tensor& shared_TD);
  at::Tensor shared_output(const at::Tensor& x_TD);
  void add_nested(RoutingStatistics& statistics, const NestedSums& nested, int64_t num_sequences) const;

  MoeConfig config_;
  bool fills_capacity_;
  bool overlap_shared_expert_;
  std::shared_ptr<TokenDispatcher> dispatcher_;
  Router router_{nullptr};
  Experts experts_{nullptr};
  FeedForward shared_expert_{nullptr};
  at::Tensor shared_gate_1D_;
  at::Tensor residual_2D_;
};
TORCH_MODULE(MoeLayer);

}  // namespace switchyard
