#include "core/kernels/rotary_kernels.h"

#include <algorithm>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "core/kernels/arithmetic.h"
#include "core/kernels/rows.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

/// Elements from one index to the next.
struct HeadStrides {
  explicit HeadStrides(const at::Tensor& x_BHSd) : b(x_BHSd.stride(0)), h(x_BHSd.stride(1)), s(x_BHSd.stride(2)) {}
  int64_t b, h, s;
};

/// A table is read once a position, for all heads.
template <typename scalar_t, bool kInterleaved>
struct RotatePosition {
  using T = Wide<scalar_t>;
  static constexpr int64_t kTile = 64;  ///< pairs whose angles are kept at once
  struct Angles {
    T cos[kTile], sin[kTile];
  };

  SWITCHYARD_INLINED void row(int64_t r) const {
    const int64_t b = r / positions, s = r % positions;
    const int64_t table = b * table_stride_b + s * table_stride_s, from = b * x_strides.b + s * x_strides.s,
                  to = b * y_strides.b + s * y_strides.s;
    Angles angles;
    for (int64_t first = 0; first < num_pairs; first += kTile) {
      const int64_t pairs = std::min(kTile, num_pairs - first);
      read_angles(angles, table, first, pairs);
      for (int64_t h = 0; h < heads; ++h) turn(y + to + h * y_strides.h, x + from + h * x_strides.h, angles, first, pairs);
    }
    const int64_t turned = 2 * num_pairs;
    if (turned == head_dim) return;
    for (int64_t h = 0; h < heads; ++h) {
      std::memcpy(y + to + h * y_strides.h + turned, x + from + h * x_strides.h + turned, (head_dim - turned) * sizeof(scalar_t));
    }
  }

  SWITCHYARD_INLINED void read_angles(Angles& angles, int64_t table, int64_t first, int64_t pairs) const {
    // A pair's second place, where the sine has its own sign.
    const double *cosines = cos + table, *sines = sin + table;
    const T factor = sign;
#pragma omp simd
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t place = kInterleaved ? 2 * (first + i) + 1 : num_pairs + first + i;
      angles.cos[i] = static_cast<T>(cosines[place]);
      angles.sin[i] = static_cast<T>(sines[place]) * factor;
    }
  }

  /// (a, b) -> (a cos - b sin, b cos + a sin)
  SWITCHYARD_INLINED void turn(scalar_t* to, const scalar_t* from, const Angles& angles, int64_t first, int64_t pairs) const {
    const int64_t step = kInterleaved ? 2 : 1, apart = kInterleaved ? 1 : num_pairs;
    const scalar_t *a = from + first * step, *b = a + apart;
    scalar_t *turned_a = to + first * step, *turned_b = turned_a + apart;
#pragma omp simd
    for (int64_t i = 0; i < pairs; ++i) {
      const T wide_a = widened(a[i * step]), wide_b = widened(b[i * step]);
      turned_a[i * step] = narrowed<scalar_t>(wide_a * angles.cos[i] - wide_b * angles.sin[i]);
      turned_b[i * step] = narrowed<scalar_t>(wide_b * angles.cos[i] + wide_a * angles.sin[i]);
    }
  }

  scalar_t* y;
  const scalar_t* x;
  const double *cos, *sin;
  HeadStrides y_strides, x_strides;
  int64_t table_stride_b, table_stride_s, positions, heads, head_dim, num_pairs;
  T sign;  ///< -1 turns backward
};

template <typename scalar_t, bool kInterleaved>
void run_rotate(const at::Tensor& y_BHSd, const at::Tensor& x_BHSd, const RotaryAngles& angles, bool transposed) {
  const int64_t B = x_BHSd.size(0), H = x_BHSd.size(1), S = x_BHSd.size(2), d = x_BHSd.size(3);
  const int64_t stride_b = angles.cos.dim() == 4 ? angles.cos.stride(0) : 0;
  const RotatePosition<scalar_t, kInterleaved> kernel{y_BHSd.data_ptr<scalar_t>(),
                                                      x_BHSd.const_data_ptr<scalar_t>(),
                                                      angles.cos.const_data_ptr<double>(),
                                                      angles.sin.const_data_ptr<double>(),
                                                      HeadStrides(y_BHSd),
                                                      HeadStrides(x_BHSd),
                                                      stride_b,
                                                      angles.cos.stride(-2),
                                                      S,
                                                      H,
                                                      d,
                                                      angles.cos.size(-1) / 2,
                                                      static_cast<Wide<scalar_t>>(transposed ? -1 : 1)};
  for_each_row(B * S, H * d, kernel);
}

bool is_dense_at_the_end(const at::Tensor& x) {
  return x.numel() == 0 || x.size(-1) <= 1 || x.stride(-1) == 1;
}

}  // namespace

void rotate_out(const at::Tensor& y_BHSd, const at::Tensor& x_BHSd, const RotaryAngles& angles, bool transposed) {
  const auto& [cos, sin, interleaved] = angles;
  TORCH_CHECK(x_BHSd.dim() == 4 && y_BHSd.sizes() == x_BHSd.sizes() && cos.size(-1) <= x_BHSd.size(3) && cos.size(-2) >= x_BHSd.size(2) &&
                  cos.strides() == sin.strides() && (cos.dim() == 2 || cos.size(0) == x_BHSd.size(0)),
              "rotate_out: ", x_BHSd.sizes(), " into ", y_BHSd.sizes(), " with a table of ", cos.sizes());
  TORCH_CHECK(is_dense_at_the_end(x_BHSd) && is_dense_at_the_end(y_BHSd) && is_dense_at_the_end(cos), "rotate_out: strides ",
              x_BHSd.strides(), " into ", y_BHSd.strides());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x_BHSd.scalar_type(), "rotate", [&] {
    interleaved ? run_rotate<scalar_t, true>(y_BHSd, x_BHSd, angles, transposed)
                : run_rotate<scalar_t, false>(y_BHSd, x_BHSd, angles, transposed);
  });
}

}  // namespace switchyard::kernels
