#include "core/loss.h"

#include "core/dtypes.h"

namespace switchyard {

at::Tensor cross_entropy_sum(const at::Tensor& logits_TV, const at::Tensor& target_T, const at::Tensor& mask_T) {
  const auto log_probability_TV = widen(logits_TV).log_softmax(-1);
  const auto nats_T = -log_probability_TV.gather(1, target_T.unsqueeze(1)).squeeze(1);
  return (nats_T * mask_T).to(at::kDouble).sum();
}

}  // namespace switchyard
