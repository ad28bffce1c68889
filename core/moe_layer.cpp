#include "core/moe_layer.h"

#include <algorithm>

#include "core/capacity.h"
#include "core/dtypes.h"
#include "core/nested_experts.h"
#include "core/phase_boundary.h"
#include "core/philox.h"
#include "core/routing/routing_checks.h"
#include "core/routing/statistics.h"

namespace switchyard {
namespace {

const MoeConfig& checked(const ModelConfig& config) {
  TORCH_CHECK(config.moe, "MoeLayer: the configuration has no experts; set ModelConfig::moe");
  const auto& moe = *config.moe;
  TORCH_CHECK(config.hidden_size > 0 && moe.ffn_hidden_size > 0, "MoeLayer: hidden_size = ", config.hidden_size,
              " and moe.ffn_hidden_size = ", moe.ffn_hidden_size, " must be positive");
  const auto faults = find_routing_faults(moe);
  TORCH_CHECK(faults.empty(), "MoeLayer: ", faults.front().key, " ", faults.front().problem);
  return moe;
}

}  // namespace

MoeLayerImpl::MoeLayerImpl(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher, const ExecutionConfig& execution)
    : config_(checked(config)),
      fills_capacity_(routing_rules().at(config_.router).fills_capacity),
      overlap_shared_expert_(execution.overlap_shared_expert),
      dispatcher_(std::move(dispatcher)) {
  router_ = register_module("router", Router(config_, config.hidden_size));
  experts_ = register_module("experts", Experts(dispatcher_->num_local_experts(), config.hidden_size, config_));
  if (config_.shared_expert_ffn_hidden_size > 0) {
    shared_expert_ =
        register_module("shared_expert", FeedForward(config.hidden_size, config_.shared_expert_ffn_hidden_size, config_.activation));
  }
  if (config_.residual) residual_2D_ = register_parameter("residual", at::empty({2, config.hidden_size}));
  if (config_.shared_expert_gate) shared_gate_1D_ = register_parameter("shared_expert_gate", at::empty({1, config.hidden_size}));
}

MoeOutput MoeLayerImpl::forward(const at::Tensor& x_BSD, const TokenContext& context) {
  const auto x_TD = phase_boundary(x_BSD.flatten(0, 1), context, Phase::kForward, Phase::kRouter);
  const auto routed = router_->forward(x_TD, context);
  auto kept = fills_capacity_ ? routed.decision.routing : apply_capacity(routed.decision.routing, config_, context);
  kept.weight_N = phase_boundary(kept.weight_N, context, Phase::kRouter, Phase::kDispatch);
  NestedSums nested;
  const auto y_TD = apply_experts_to(x_TD, kept, context, nested);
  auto statistics = collect_statistics(routed.logits, routed.decision, kept, config_, context);
  if (config_.nested_experts > 0) add_nested(statistics, nested, x_BSD.size(0));
  return {y_TD.view(x_BSD.sizes()), std::move(statistics)};
}

HeldExperts MoeLayerImpl::held_experts() const {
  const int64_t inside = std::max<int64_t>(config_.nested_experts, 1);
  return {config_.num_experts * inside, dispatcher_->first_expert() * inside};
}

at::Tensor MoeLayerImpl::apply_experts_to(const at::Tensor& x_TD, const Routing& kept, const TokenContext& context, NestedSums& nested) {
  const auto ticket = begin_dispatch(x_TD, kept, context);
  at::Tensor shared_TD;
  if (overlap_shared_expert_) shared_TD = shared_output(x_TD);  // while the rows travel
  for (const auto& weights : experts_->in_chunks(dispatcher_->chunk_starts())) {
    enter(context.observer, Phase::kDispatch, context.layer);
    auto input = dispatcher_->finish(*ticket);
    input.rows_RD = phase_boundary(input.rows_RD, context, Phase::kDispatch, Phase::kExperts);
    const auto outputs_RD = outputs_of(input, weights, context, nested);
    dispatcher_->combine_begin(*ticket, phase_boundary(outputs_RD, context, Phase::kExperts, Phase::kCombine));
  }
  auto y_TD = dispatcher_->combine_finish(*ticket);
  if (config_.apply == ApplyWeight::kInput) y_TD = y_TD.view({x_TD.size(0), kept.num_choices, -1}).sum(1);
  y_TD = phase_boundary(y_TD, context, Phase::kCombine, Phase::kForward);
  if (!overlap_shared_expert_) shared_TD = shared_output(x_TD);
  return shared_TD.defined() ? joined(x_TD, y_TD, shared_TD) : y_TD;
}

at::Tensor MoeLayerImpl::outputs_of(const ExpertRows& input, const ExpertWeights& weights, const TokenContext& context,
                                    NestedSums& nested) const {
  if (config_.nested_experts == 0) return apply_experts(input, weights, config_.activation, dropout_of(input, context));
  auto output = apply_nested_experts(input, weights, config_, [&](const ExpertRows& inner) { return dropout_of(inner, context); });
  nested.assigned_M.push_back(std::move(output.assigned_M));
  nested.probability_M.push_back(std::move(output.probability_M));
  return output.y_RD;
}

void MoeLayerImpl::add_nested(RoutingStatistics& statistics, const NestedSums& nested, int64_t num_sequences) const {
  const auto held = held_experts();
  // The rows here come from sequences of other ranks too: all are counted in the first row, and only the sum over rows has a meaning.
  const auto among_all = [&](const std::vector<at::Tensor>& chunks_m) {
    const auto here_M = at::cat(chunks_m);
    return at::constant_pad_nd(here_M.unsqueeze(0), {held.first, held.num_experts - held.first - here_M.size(0), 0, num_sequences - 1});
  };
  statistics.nested_assigned_BM = among_all(nested.assigned_M);
  statistics.nested_probability_BM = among_all(nested.probability_M);
}

at::Tensor MoeLayerImpl::joined(const at::Tensor& x_TD, const at::Tensor& y_TD, const at::Tensor& shared_TD) {
  if (!residual_2D_.defined()) return y_TD + shared_TD;
  const auto share_T2 = at::linear(widen(x_TD), widen(residual_2D_)).softmax(-1).to(x_TD.scalar_type());
  return y_TD * share_T2.narrow(1, 0, 1) + shared_TD * share_T2.narrow(1, 1, 1);
}

at::Tensor MoeLayerImpl::dropout_of(const ExpertRows& input, const TokenContext& context) const {
  if (!input.label_R.defined()) return {};
  // By the token, wherever its expert stands.
  const auto uniform_RF = uniform_by_label(input.label_R.clamp_min(0), config_.ffn_hidden_size, context, RandomPurpose::kExpertDropout);
  const double kept = 1.0 - config_.expert_dropout;
  return (uniform_RF < kept).to(input.rows_RD.scalar_type()) / kept;
}

at::Tensor MoeLayerImpl::row_labels(const TokenContext& context) const {
  if (!context.training || config_.expert_dropout == 0.0) return {};
  const int64_t S = context.token_ids_BS.size(1);
  return (context.global_sample_B.unsqueeze(1) * S + at::arange(S, context.global_sample_B.options())).flatten();
}

std::unique_ptr<DispatchTicket> MoeLayerImpl::begin_dispatch(const at::Tensor& x_TD, const Routing& kept, const TokenContext& context) {
  const auto label_T = row_labels(context);
  if (config_.apply == ApplyWeight::kOutput) return dispatcher_->begin(x_TD, kept, label_T);
  // Every choice of a token is a row of its own, multiplied before it travels; what comes back counts once.
  TORCH_CHECK(kept.token_N.size(0) == x_TD.size(0) * kept.num_choices,
              "model.moe.apply: input needs a rule that lists equally many choices for each token");
  const auto weight_N1 = kept.weight_N.to(x_TD.scalar_type()).unsqueeze(1);
  Routing of_rows = kept;
  of_rows.token_N = kept.token_N * kept.num_choices + kept.choice_N;
  of_rows.choice_N = at::zeros_like(kept.choice_N);
  of_rows.weight_N = at::ones_like(kept.weight_N);
  of_rows.num_choices = 1;
  return dispatcher_->begin(x_TD.index_select(0, kept.token_N) * weight_N1, of_rows,
                            label_T.defined() ? label_T.index_select(0, kept.token_N) : label_T);
}

at::Tensor MoeLayerImpl::shared_output(const at::Tensor& x_TD) {
  if (shared_expert_.is_empty()) return {};
  const auto y_TD = shared_expert_->forward(x_TD);
  return shared_gate_1D_.defined() ? at::linear(x_TD, shared_gate_1D_).sigmoid() * y_TD : y_TD;
}

}  // namespace switchyard
