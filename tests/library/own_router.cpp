// A routing rule of one's own, and the whole command line with it: mpirun -n 2 own_router train own_router.yaml
#include <ATen/ATen.h>

#include <switchyard/core/routing/routing_trace.h>
#include <switchyard/core/routing/selection.h>
#include <switchyard/training/command_line.h>

using namespace switchyard;

/// The k largest of s = sqrt(softplus(z)), z the router's logits; weights are their shares of the sum over the k.
RoutingDecision decide_sqrt_softplus(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const auto score_TE = at::softplus(logits.expert_TE).sqrt();
  trace_scores(context, logits.expert_TE.detach());
  const auto expert_TK = traced_choices(context, [&] { return best_k(logits.expert_TE.detach(), config.top_k); });
  const auto weight_TK = renormalized(score_TE.gather(1, expert_TK));
  return {.routing = rectangular_routing(expert_TK, weight_TK, config, context),
          .probability_TE = score_TE / score_TE.sum(-1, /*keepdim=*/true)};
}

int main(int argc, char** argv) {
  register_routing_rule("sqrt_softplus", {.decide = decide_sqrt_softplus});
  return run_command_line(argc, argv);
}
