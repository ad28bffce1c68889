#include "core/moe_layer.h"

#include "core/capacity.h"
#include "core/phase_observer.h"
#include "core/routing/statistics.h"

namespace switchyard {

MoeLayerImpl::MoeLayerImpl(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher, const ExecutionConfig& execution)
    : config_(*config.moe), overlap_shared_expert_(execution.overlap_shared_expert), dispatcher_(std::move(dispatcher)) {
  router_ = register_module("router", Router(config_, config.hidden_size));
  experts_ = register_module("experts", Experts(dispatcher_->num_local_experts(), config.hidden_size, config_.ffn_hidden_size));
  if (config_.shared_expert_ffn_hidden_size > 0) {
    shared_expert_ = register_module("shared_expert", FeedForward(config.hidden_size, config_.shared_expert_ffn_hidden_size));
  }
  if (config_.shared_expert_gate) shared_gate_1D_ = register_parameter("shared_expert_gate", at::empty({1, config.hidden_size}));
}

MoeOutput MoeLayerImpl::forward(const at::Tensor& x_BSD, const TokenContext& context) {
  const int64_t B = x_BSD.size(0), S = x_BSD.size(1);
  const auto x_TD = x_BSD.reshape({B * S, x_BSD.size(2)});
  const auto routed = router_->forward(x_TD, context);
  // Evaluation and generation are dropless: a text's likelihood must not depend on its neighbours in the batch.
  const auto kept = context.training ? apply_capacity(routed.decision.routing, config_, context, B, S) : routed.decision.routing;
  const auto y_TD = apply_experts_to(x_TD, kept, context);
  return {y_TD.view(x_BSD.sizes()), collect_statistics(routed.logits_TE, routed.decision, kept, context, B)};
}

at::Tensor MoeLayerImpl::apply_experts_to(const at::Tensor& x_TD, const Routing& kept, const TokenContext& context) {
  const auto enter_phase = [&](Phase phase) { enter(context.observer, phase, context.layer); };
  enter_phase(Phase::kDispatch);
  const auto ticket = dispatcher_->begin(x_TD, kept);
  at::Tensor shared_TD;
  if (overlap_shared_expert_) shared_TD = shared_output(x_TD);  // while the rows travel
  for (const auto& weights : experts_->in_chunks(dispatcher_->chunk_starts())) {
    enter_phase(Phase::kDispatch);
    const auto input = dispatcher_->finish(*ticket);
    enter_phase(Phase::kExperts);
    const auto outputs_RD = apply_experts(input, weights.gate_up_e2FD, weights.down_eDF);
    enter_phase(Phase::kCombine);
    dispatcher_->combine_begin(*ticket, outputs_RD);
  }
  const auto y_TD = dispatcher_->combine_finish(*ticket);
  enter_phase(Phase::kForward);
  if (!overlap_shared_expert_) shared_TD = shared_output(x_TD);
  return shared_TD.defined() ? y_TD + shared_TD : y_TD;
}

at::Tensor MoeLayerImpl::shared_output(const at::Tensor& x_TD) {
  if (shared_expert_.is_empty()) return {};
  const auto y_TD = shared_expert_->forward(x_TD);
  return shared_gate_1D_.defined() ? at::linear(x_TD, shared_gate_1D_).sigmoid() * y_TD : y_TD;
}

}  // namespace switchyard
