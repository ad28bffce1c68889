// What the routers decided, kept or given: a second pass must decide as the first did, and a run can take over another run's choices.
// T tokens here, E all experts, K choices a token, N assignments.
#pragma once

#include <functional>

#include "core/routing/routing.h"

namespace switchyard {

class RoutingTrace {
 public:
  virtual ~RoutingTrace() = default;

  /// The router's logits, [T, E], without gradients, before anything is made of them. Rules without a map to experts say nothing.
  virtual void see_logits(const TokenContext& /*context*/, const at::Tensor& /*logit_TE*/) {}

  /// What the router is about to choose by, [T, E], without gradients: the next call asks for its choices. Logits, or what orders experts
  /// as they do. For whoever must judge how near to another one a choice was. Rules that do not choose by scores say nothing.
  virtual void see_scores(const TokenContext& /*context*/, const at::Tensor& /*score_TE*/) {}

  /// The experts that the router of context.layer takes for the samples context.global_sample_B: int64 [T, K], tokens being the rows of
  /// [B, S] in order, first choice first, masked tokens like all others, before drops. `choose` makes them where none are given.
  virtual at::Tensor choices(const TokenContext& context, const std::function<at::Tensor()>& choose) = 0;

  /// Which of these assignments get a slot within capacity: bool [N]. `decide` says so where it is not known.
  virtual at::Tensor kept(const TokenContext& /*context*/, const std::function<at::Tensor()>& decide) { return decide(); }
};

/// The same through context.routing_trace, where there is one.
inline void trace_logits(const TokenContext& context, const at::Tensor& logit_TE) {
  if (context.routing_trace) context.routing_trace->see_logits(context, logit_TE);
}
inline void trace_scores(const TokenContext& context, const at::Tensor& score_TE) {
  if (context.routing_trace) context.routing_trace->see_scores(context, score_TE);
}
inline at::Tensor traced_choices(const TokenContext& context, const std::function<at::Tensor()>& choose) {
  return context.routing_trace ? context.routing_trace->choices(context, choose) : choose();
}
inline at::Tensor traced_kept(const TokenContext& context, const std::function<at::Tensor()>& decide) {
  return context.routing_trace ? context.routing_trace->kept(context, decide) : decide();
}

}  // namespace switchyard
