#include "core/routing/softmax_top_k.h"

#include "core/routing/routing_trace.h"

namespace switchyard {

RoutingDecision softmax_top_k(const at::Tensor& logits_TE, const MoeConfig& config, const TokenContext& context) {
  const int64_t T = logits_TE.size(0), E = config.num_experts, K = config.top_k;
  const auto probability_TE = logits_TE.softmax(-1);
  trace_scores(context, probability_TE.detach());
  auto expert_TK = traced_choices(context, [&] {
    // A stable sort, never topk: ties must fall the same way on every device and layout.
    return std::get<1>(probability_TE.detach().sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true)).narrow(1, 0, K);
  });
  auto weight_TK = probability_TE.gather(1, expert_TK);
  if (config.renormalize) weight_TK = weight_TK / weight_TK.sum(1, /*keepdim=*/true);
  if (context.mask_BS.defined()) expert_TK = expert_TK.where(context.mask_BS.view({T, 1}), at::scalar_tensor(E, expert_TK.options()));

  const auto options = expert_TK.options();
  Routing routing;
  routing.token_N = at::arange(T, options).repeat_interleave(K);
  routing.expert_N = expert_TK.reshape({T * K});
  routing.weight_N = weight_TK.reshape({T * K});
  routing.choice_N = at::arange(K, options).repeat({T});
  routing.num_experts = E;
  routing.num_choices = K;
  return {std::move(routing), probability_TE};
}

}  // namespace switchyard
