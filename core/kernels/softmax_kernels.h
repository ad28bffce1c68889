// The softmax of attention over a block of scores, forward and backward, for CPUs.
// R rows of scores: some queries of one head after another, all against the same N keys.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

/// What each query sees: row r is query r % num_queries.
struct SeenKeys {
  int64_t num_queries;
  int64_t of_first;    ///< keys that the first query sees, one more a query; the rest is hidden
  at::Tensor mask_QN;  ///< in their place, added to the scores: 0 or -inf, of share's dtype, dense rows; undefined = none
};

/// share_RN = softmax(scale score_RN), zero for hidden keys; lse_R = the logarithm of what each row was divided by. score_RN: max(fp32,
/// dtype of share), overwritten.
void softmax_out(const at::Tensor& share_RN, const at::Tensor& lse_R, const at::Tensor& score_RN, const SeenKeys& seen, double scale);

/// From the scores and the gradient of the shares, which becomes that of the scores: share_RN again, and
/// grad_RN = scale share (grad - sum of share grad).
void softmax_backward_out(const at::Tensor& share_RN, const at::Tensor& grad_RN, const at::Tensor& score_RN, const at::Tensor& lse_R,
                          const SeenKeys& seen, double scale);

}  // namespace switchyard::kernels
