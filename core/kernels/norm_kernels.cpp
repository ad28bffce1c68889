#include "core/kernels/norm_kernels.h"

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

template <typename scalar_t>
struct NormForwardRow {
  using T = Wide<scalar_t>;

  SWITCHYARD_INLINED void row(int64_t r) const {
    const int64_t width = x.width();
    const scalar_t* in = x[r];
    scalar_t* out = y[r];
    const auto square = [in](int64_t d) __attribute__((always_inline)) {
      return widened(in[d]) * widened(in[d]);
    };
    const T scale = T(1) / std::sqrt(LaneSum<T>::of(width, square) / static_cast<T>(width) + eps);
    scale_R[r] = scale;
    const scalar_t* weights = weight_D;
    if (weights) {
#pragma omp simd
      for (int64_t d = 0; d < width; ++d) out[d] = narrowed<scalar_t>(widened(weights[d]) * rounded_to<scalar_t>(widened(in[d]) * scale));
    } else {
#pragma omp simd
      for (int64_t d = 0; d < width; ++d) out[d] = narrowed<scalar_t>(widened(in[d]) * scale);
    }
  }

  Rows<scalar_t> y;
  Rows<const scalar_t> x;
  const scalar_t* weight_D;  ///< or nullptr
  T* scale_R;
  T eps;
};

/// With n = x * scale and g = grad_y * weight: grad x = scale * (g - n mean(g n)), grad weight = the sum over rows of grad_y * n.
template <typename scalar_t, bool kHasWeight>
struct NormBackwardBlock {
  using T = Wide<scalar_t>;

  /// One block of rows, and one row of the partial sums.
  SWITCHYARD_INLINED void row(int64_t block) const {
    T* sum_D = kHasWeight ? partial_BD + block * x.width() : nullptr;
    const int64_t end = std::min(x.num_rows(), (block + 1) * rows_per_block);
    for (int64_t r = block * rows_per_block; r < end; ++r) {
      write_gradient(r);
      if (kHasWeight) add_to_weight_gradient(r, sum_D);
    }
  }

  SWITCHYARD_INLINED void write_gradient(int64_t r) const {
    const int64_t width = x.width();
    const scalar_t *in = x[r], *grad = grad_y[r], *weights = weight_D;
    scalar_t* out = grad_x[r];
    const auto weighted = [=](int64_t d) __attribute__((always_inline)) {
      return kHasWeight ? widened(grad[d]) * widened(weights[d]) : widened(grad[d]);
    };
    const auto product = [=](int64_t d) __attribute__((always_inline)) {
      return weighted(d) * widened(in[d]);
    };
    const T scale = scale_R[r], share = LaneSum<T>::of(width, product) * scale / static_cast<T>(width) * scale;
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) out[d] = narrowed<scalar_t>((weighted(d) - widened(in[d]) * share) * scale);
  }

  SWITCHYARD_INLINED void add_to_weight_gradient(int64_t r, T* sum_D) const {
    const int64_t width = x.width();
    const scalar_t *in = x[r], *grad = grad_y[r];
    const T scale = scale_R[r];
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) sum_D[d] += widened(grad[d]) * rounded_to<scalar_t>(widened(in[d]) * scale);
  }

  Rows<scalar_t> grad_x;
  Rows<const scalar_t> grad_y, x;
  const scalar_t* weight_D;
  const T* scale_R;
  T* partial_BD;
  int64_t rows_per_block;
};

/// Adds the blocks of a tile of columns, in fp64.
template <typename scalar_t>
struct SumOfBlocks {
  static constexpr int64_t kTile = 128;

  SWITCHYARD_INLINED void row(int64_t tile) const {
    double sum[kTile] = {};
    const int64_t first = tile * kTile, columns = std::min(kTile, width - first);
    for (int64_t block = 0; block < num_blocks; ++block) {
      const auto* partial = partial_BD + block * width + first;
#pragma omp simd
      for (int64_t d = 0; d < columns; ++d) sum[d] += static_cast<double>(partial[d]);
    }
    for (int64_t d = 0; d < columns; ++d) sum_D[first + d] = narrowed<scalar_t>(static_cast<Wide<scalar_t>>(sum[d]));
  }

  const Wide<scalar_t>* partial_BD;
  scalar_t* sum_D;
  int64_t num_blocks, width;
};

/// Work enough for a thread, and partial sums that are much smaller than x.
int64_t rows_per_norm_block(int64_t width) {
  return std::clamp<int64_t>(at::internal::GRAIN_SIZE / std::max<int64_t>(1, width), 8, 512);
}

template <typename scalar_t, bool kHasWeight>
void run_norm_backward(const NormGradients& out, const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& weight_D,
                       const at::Tensor& scale_R) {
  using T = Wide<scalar_t>;
  const int64_t width = x.size(-1), block = rows_per_norm_block(width), num_blocks = (scale_R.numel() + block - 1) / block;
  const auto partial_BD = at::zeros({kHasWeight ? num_blocks : 0, width}, scale_R.options());
  const NormBackwardBlock<scalar_t, kHasWeight> kernel{Rows<scalar_t>(out.x),
                                                       Rows<const scalar_t>(grad_y),
                                                       Rows<const scalar_t>(x),
                                                       kHasWeight ? weight_D.const_data_ptr<scalar_t>() : nullptr,
                                                       scale_R.const_data_ptr<T>(),
                                                       partial_BD.template data_ptr<T>(),
                                                       block};
  for_each_row(num_blocks, block * width, kernel);
  if constexpr (kHasWeight) {
    using Sum = SumOfBlocks<scalar_t>;
    const Sum sum{partial_BD.template const_data_ptr<T>(), out.weight_D.template data_ptr<scalar_t>(), num_blocks, width};
    for_each_row((width + Sum::kTile - 1) / Sum::kTile, num_blocks * Sum::kTile, sum);
  }
}

}  // namespace

NormForward rms_norm_forward(const at::Tensor& x, const at::Tensor& weight_D, double eps) {
  const auto dense = with_dense_rows(x), weight = weight_D.defined() ? weight_D.contiguous() : weight_D;
  const auto order = memory_order(dense);
  const auto in = dense.permute(order), y = at::empty_like(in);
  at::Tensor scale_R;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
    using T = Wide<scalar_t>;
    const Rows<const scalar_t> rows(in);
    scale_R = at::empty({rows.num_rows()}, x.options().dtype(c10::CppTypeToScalarType<T>::value));
    const NormForwardRow<scalar_t> kernel{Rows<scalar_t>(y), rows, weight.defined() ? weight.const_data_ptr<scalar_t>() : nullptr,
                                          scale_R.template data_ptr<T>(), static_cast<T>(eps)};
    for_each_row(rows.num_rows(), rows.width(), kernel);
  });
  return {permuted_back(y, order), scale_R};
}

NormGradients rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& weight_D, const at::Tensor& scale_R) {
  const auto dense = with_dense_rows(x);
  const auto order = memory_order(dense);
  const auto in = dense.permute(order), grad = with_dense_rows(grad_y.permute(order));
  NormGradients out{at::empty_like(in), {}};
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm_backward", [&] {
    if (weight_D.defined()) {
      out.weight_D = at::empty_like(weight_D, at::MemoryFormat::Contiguous);
      run_norm_backward<scalar_t, true>(out, grad, in, weight_D.contiguous(), scale_R);
    } else {
      run_norm_backward<scalar_t, false>(out, grad, in, weight_D, scale_R);
    }
  });
  out.x = permuted_back(out.x, order);
  return out;
}

}  // namespace switchyard::kernels
