#include "core/kernels/softmax_kernels.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "core/kernels/arithmetic.h"
#include "core/kernels/lane_sum.h"
#include "core/kernels/rows.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

/// A block's rows of scores, and what they see.
template <typename scalar_t>
struct ScoreRows {
  using T = Wide<scalar_t>;

  ScoreRows(const at::Tensor& score_RN, const SeenKeys& seen, double factor)
      : score(score_RN.data_ptr<T>()),
        width(score_RN.size(1)),
        num_queries(seen.num_queries),
        of_first(seen.of_first),
        mask(seen.mask_QN.defined() ? seen.mask_QN.const_data_ptr<scalar_t>() : nullptr),
        mask_stride(seen.mask_QN.defined() ? seen.mask_QN.stride(0) : 0),
        scale(static_cast<T>(factor)) {}

  SWITCHYARD_INLINED int64_t seen(int64_t r) const { return mask ? width : std::min(width, of_first + r % num_queries); }

  /// A row, multiplied and masked in place.
  SWITCHYARD_INLINED T* prepared(int64_t r) const {
    const int64_t count = seen(r);
    T* row = score + r * width;
    if (mask) {
      const scalar_t* added = mask + r % num_queries * mask_stride;
#pragma omp simd
      for (int64_t k = 0; k < count; ++k) row[k] = row[k] * scale + widened(added[k]);
    } else {
#pragma omp simd
      for (int64_t k = 0; k < count; ++k) row[k] *= scale;
    }
    return row;
  }

  T* score;
  int64_t width, num_queries, of_first;
  const scalar_t* mask;
  int64_t mask_stride;
  T scale;
};

template <typename scalar_t>
SWITCHYARD_INLINED void hide(scalar_t* row, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) row[k] = narrowed<scalar_t>(Wide<scalar_t>(0));
}

template <typename scalar_t>
struct SoftmaxRow {
  using T = Wide<scalar_t>;

  SWITCHYARD_INLINED void row(int64_t r) const {
    const int64_t count = scores.seen(r);
    T* score = scores.prepared(r);
    const T greatest = greatest_of<T>(
        count, [=](int64_t k) __attribute__((always_inline)) { return score[k]; });
    const T sum = LaneSum<T>::of(
        count, [=](int64_t k) __attribute__((always_inline)) { return score[k] = exponential(score[k] - greatest); });
    const T part = T(1) / sum;
    scalar_t* out = share + r * scores.width;
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) out[k] = narrowed<scalar_t>(score[k] * part);
    hide(out, count, scores.width);
    lse[r] = greatest + std::log(sum);
  }

  scalar_t* share;
  T* lse;
  ScoreRows<scalar_t> scores;
};

template <typename scalar_t>
struct SoftmaxBackwardRow {
  using T = Wide<scalar_t>;

  SWITCHYARD_INLINED void row(int64_t r) const {
    const int64_t count = scores.seen(r);
    T* score = scores.prepared(r);
    scalar_t *out = share + r * scores.width, *slope = grad + r * scores.width;
    const T shift = lse[r], scale = scores.scale;
    const T mean = LaneSum<T>::of(
        count, [=](int64_t k) __attribute__((always_inline)) {
          score[k] = exponential(score[k] - shift);
          return score[k] * widened(slope[k]);
        });
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      out[k] = narrowed<scalar_t>(score[k]);
      slope[k] = narrowed<scalar_t>(score[k] * (widened(slope[k]) - mean) * scale);
    }
    hide(out, count, scores.width);
    hide(slope, count, scores.width);
  }

  scalar_t *share, *grad;
  const T* lse;
  ScoreRows<scalar_t> scores;
};

void check_block(const at::Tensor& share_RN, const at::Tensor& lse_R, const at::Tensor& score_RN, const SeenKeys& seen) {
  const auto& mask = seen.mask_QN;
  TORCH_CHECK(share_RN.dim() == 2 && share_RN.is_contiguous() && score_RN.is_contiguous() && score_RN.sizes() == share_RN.sizes() &&
                  lse_R.is_contiguous() && lse_R.numel() == share_RN.size(0) && seen.num_queries > 0 &&
                  (mask.defined() || seen.of_first > 0),
              "softmax of a block: shares ", share_RN.sizes(), ", scores ", score_RN.sizes(), ", lse ", lse_R.sizes(), ", ",
              seen.num_queries, " queries");
  TORCH_CHECK(!mask.defined() || (mask.sizes() == at::IntArrayRef({seen.num_queries, share_RN.size(1)}) && mask.stride(1) == 1 &&
                                  mask.scalar_type() == share_RN.scalar_type()),
              "softmax of a block: a mask of ", mask.sizes(), " for ", seen.num_queries, " queries and ", share_RN.size(1), " keys");
}

}  // namespace

void softmax_out(const at::Tensor& share_RN, const at::Tensor& lse_R, const at::Tensor& score_RN, const SeenKeys& seen, double scale) {
  check_block(share_RN, lse_R, score_RN, seen);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, share_RN.scalar_type(), "attention_softmax", [&] {
    const SoftmaxRow<scalar_t> kernel{share_RN.data_ptr<scalar_t>(), lse_R.data_ptr<Wide<scalar_t>>(), {score_RN, seen, scale}};
    for_each_row(share_RN.size(0), share_RN.size(1), kernel);
  });
}

void softmax_backward_out(const at::Tensor& share_RN, const at::Tensor& grad_RN, const at::Tensor& score_RN, const at::Tensor& lse_R,
                          const SeenKeys& seen, double scale) {
  check_block(share_RN, lse_R, score_RN, seen);
  TORCH_CHECK(grad_RN.sizes() == share_RN.sizes() && grad_RN.is_contiguous() && grad_RN.scalar_type() == share_RN.scalar_type(),
              "softmax of a block: gradient ", grad_RN.sizes(), " of shares ", share_RN.sizes());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, share_RN.scalar_type(), "attention_softmax_backward", [&] {
    const SoftmaxBackwardRow<scalar_t> kernel{
        share_RN.data_ptr<scalar_t>(), grad_RN.data_ptr<scalar_t>(), lse_R.const_data_ptr<Wide<scalar_t>>(), {score_RN, seen, scale}};
    for_each_row(share_RN.size(0), share_RN.size(1), kernel);
  });
}

}  // namespace switchyard::kernels
