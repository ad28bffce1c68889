#include "core/kernels/row_sum_kernels.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "core/kernels/arithmetic.h"
#include "core/kernels/lane_sum.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

template <typename scalar_t>
struct SumOfRows {
  using T = Wide<scalar_t>;
  static constexpr int64_t kTile = 512;  ///< columns summed at once, in the nearest cache

  SWITCHYARD_INLINED void row(int64_t t) const {
    T sum[kTile];
    for (int64_t first = 0; first < width; first += kTile) {
      const int64_t columns = std::min(kTile, width - first);
      std::fill(sum, sum + columns, T(0));
      for (int64_t place = t * num_choices; place < (t + 1) * num_choices; ++place) {
        if (slots[place] >= 0) add(sum, rows + slots[place] * width + first, weights ? weights[place] : T(1), columns);
      }
      scalar_t* out = y + t * width + first;
#pragma omp simd
      for (int64_t d = 0; d < columns; ++d) out[d] = narrowed<scalar_t>(sum[d]);
    }
  }

  SWITCHYARD_INLINED static void add(T* sum, const scalar_t* row, T weight, int64_t columns) {
#pragma omp simd
    for (int64_t d = 0; d < columns; ++d) sum[d] += weight * widened(row[d]);
  }

  scalar_t* y;
  const scalar_t* rows;
  const int64_t* slots;
  const T* weights;  ///< or nullptr
  int64_t width, num_choices;
};

template <typename scalar_t>
struct DotOfRows {
  using T = Wide<scalar_t>;

  SWITCHYARD_INLINED void row(int64_t place) const {
    if (slots[place] < 0) {
      dots[place] = 0;
      return;
    }
    const scalar_t *row = rows + slots[place] * width, *other = y + place / num_choices * width;
    dots[place] = LaneSum<T>::of(
        width, [=](int64_t d) __attribute__((always_inline)) { return widened(row[d]) * widened(other[d]); });
  }

  T* dots;
  const scalar_t *rows, *y;
  const int64_t* slots;
  int64_t width, num_choices;
};

void check_slots(const at::Tensor& slot_TK, int64_t num_rows) {
  const auto* slots = slot_TK.const_data_ptr<int64_t>();
  for (int64_t place = 0; place < slot_TK.numel(); ++place) check_row_in_range(slots[place], num_rows);
}

}  // namespace

void sum_rows_out(const at::Tensor& y_TD, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK) {
  check_slots(slot_TK, rows_RD.size(0));
  const int64_t width = rows_RD.size(1), num_choices = slot_TK.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows_RD.scalar_type(), "sum_rows", [&] {
    const SumOfRows<scalar_t> kernel{y_TD.data_ptr<scalar_t>(),
                                     rows_RD.const_data_ptr<scalar_t>(),
                                     slot_TK.const_data_ptr<int64_t>(),
                                     weight_TK.defined() ? weight_TK.const_data_ptr<Wide<scalar_t>>() : nullptr,
                                     width,
                                     num_choices};
    for_each_row(slot_TK.size(0), width * num_choices, kernel);
  });
}

void dot_rows_out(const at::Tensor& dot_TK, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& y_TD) {
  check_slots(slot_TK, rows_RD.size(0));
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows_RD.scalar_type(), "dot_rows", [&] {
    const DotOfRows<scalar_t> kernel{dot_TK.data_ptr<Wide<scalar_t>>(),
                                     rows_RD.const_data_ptr<scalar_t>(),
                                     y_TD.const_data_ptr<scalar_t>(),
                                     slot_TK.const_data_ptr<int64_t>(),
                                     rows_RD.size(1),
                                     slot_TK.size(1)};
    for_each_row(slot_TK.numel(), rows_RD.size(1), kernel);
  });
}

}  // namespace switchyard::kernels
