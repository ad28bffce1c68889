#include "core/kernels/cross_entropy_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "core/kernels/arithmetic.h"
#include "core/kernels/lane_sum.h"
#include "core/kernels/rows.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

template <typename scalar_t>
struct CrossEntropyRow {
  using T = Wide<scalar_t>;
  static constexpr bool kKeepsInPlace = std::is_same_v<scalar_t, T>;

  SWITCHYARD_INLINED void row(int64_t t) const {
    const int64_t width = logits.width();
    scalar_t* logit = logits[t];
    nats_T[t] = 0;
    if (!mask_T[t]) {
#pragma omp simd
      for (int64_t v = 0; v < width; ++v) logit[v] = narrowed<scalar_t>(T(0));
      return;
    }
    const T greatest = greatest_of<T>(
        width, [=](int64_t v) __attribute__((always_inline)) { return widened(logit[v]); });
    const int64_t target = target_T[t];
    const T at_target = widened(logit[target]) - greatest;
    // Where nothing is lost by it, the exponentials are kept in the place of the logits.
    T* exponentials = nullptr;
    if constexpr (kKeepsInPlace) {
      exponentials = logit;
    } else {
      exponentials = scratch + at::get_thread_num() * width;
    }
    const T sum = LaneSum<T>::of(
        width, [=](int64_t v) __attribute__((always_inline)) { return exponentials[v] = exponential(widened(logit[v]) - greatest); });
    const T share = T(1) / sum;
    nats_T[t] = std::log(sum) - at_target;
#pragma omp simd
    for (int64_t v = 0; v < width; ++v) logit[v] = narrowed<scalar_t>(exponentials[v] * share);
    logit[target] = narrowed<scalar_t>(exponential(at_target) * share - T(1));
  }

  Rows<scalar_t> logits;
  const int64_t* target_T;
  const bool* mask_T;
  T* nats_T;
  T* scratch;  ///< [threads, width]; nullptr where exponentials take the place of the logits
};

void check_targets(const at::Tensor& target_T, int64_t vocab_size) {
  const auto* targets = target_T.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < target_T.size(0); ++t) {
    TORCH_CHECK(targets[t] >= 0 && targets[t] < vocab_size, "cross entropy: target ", targets[t], " of ", vocab_size, " logits");
  }
}

}  // namespace

at::Tensor cross_entropy_and_gradient(at::Tensor logit_TV, const at::Tensor& target_T, const at::Tensor& mask_T) {
  const auto target = target_T.contiguous(), mask = mask_T.contiguous();
  TORCH_CHECK(logit_TV.dim() == 2 && target.size(0) == logit_TV.size(0) && mask.size(0) == logit_TV.size(0), "cross entropy: logits ",
              logit_TV.sizes(), ", targets ", target.sizes(), ", mask ", mask.sizes());
  check_targets(target, logit_TV.size(1));
  at::Tensor nats_T;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, logit_TV.scalar_type(), "cross_entropy", [&] {
    using T = Wide<scalar_t>;
    nats_T = at::empty({logit_TV.size(0)}, logit_TV.options().dtype(c10::CppTypeToScalarType<T>::value));
    const int64_t scratch_rows = CrossEntropyRow<scalar_t>::kKeepsInPlace ? 0 : at::get_num_threads();
    const auto scratch = at::empty({scratch_rows, logit_TV.size(1)}, nats_T.options());
    const CrossEntropyRow<scalar_t> kernel{Rows<scalar_t>(logit_TV), target.const_data_ptr<int64_t>(), mask.const_data_ptr<bool>(),
                                           nats_T.template data_ptr<T>(), scratch.template data_ptr<T>()};
    for_each_row(logit_TV.size(0), logit_TV.size(1), kernel);
  });
  return nats_T;
}

}  // namespace switchyard::kernels
