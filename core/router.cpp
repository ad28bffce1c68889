#include "core/router.h"

#include "core/dtypes.h"
#include "core/philox.h"

namespace switchyard {

RouterImpl::RouterImpl(const MoeConfig& config, int64_t hidden_size)
    : config_(config),
      rule_(routing_rules().at(config.router)),
      weight_ED_(register_parameter("weight", at::empty({config.num_experts, hidden_size}))) {}

RouterOutput RouterImpl::forward(const at::Tensor& x_TD, const TokenContext& context) {
  auto x = widen(x_TD);
  if (context.training && config_.input_jitter > 0) {
    const int64_t S = x.size(0) / context.global_sample_B.size(0);
    const auto uniform_TD = uniform_by_token(context, S, x.size(1), RandomPurpose::kRouterInputJitter).to(x.scalar_type());
    x = x * (1.0 - config_.input_jitter + 2.0 * config_.input_jitter * uniform_TD);
  }
  const auto logits_TE = at::linear(x, widen(weight_ED_));
  return {rule_(logits_TE, config_, context), logits_TE};
}

}  // namespace switchyard
