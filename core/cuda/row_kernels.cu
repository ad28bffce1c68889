#include "core/cuda/row_kernels.h"

#include <ATen/Dispatch.h>

#include "core/cuda/launch.cuh"
#include "core/kernels/arithmetic.h"

namespace switchyard::cuda {
namespace {

using kernels::narrowed;
using kernels::Wide;
using kernels::widened;

/// Neighbouring elements of a row that a thread reads and writes at once.
template <typename scalar_t, int kCount>
struct alignas(sizeof(scalar_t) * kCount) Pack {
  scalar_t values[kCount];
};

/// What one instruction reads.
constexpr int64_t kPackBytes = 16;

/// Whether a row of each tensor is a whole number of aligned packs.
bool lie_in_packs(int64_t row_bytes, std::initializer_list<const void*> data) {
  return row_bytes % kPackBytes == 0 &&
         std::all_of(data.begin(), data.end(), [](const void* place) { return reinterpret_cast<uintptr_t>(place) % kPackBytes == 0; });
}

template <class Columns>
struct GatherRows {
  __device__ void operator()(int64_t r, int64_t column) const {
    const int64_t source_row = index[r];
    CUDA_KERNEL_ASSERT(source_row >= -1 && source_row < num_sources);
    rows[r * row_length + column] = source_row < 0 ? Columns{} : source[source_row * row_length + column];
  }

  Columns* rows;
  const Columns* source;
  const int64_t* index;
  int64_t row_length, num_sources;  ///< the length in columns
};

template <typename scalar_t, int kCount>
struct SumRows {
  using T = Wide<scalar_t>;
  using Columns = Pack<scalar_t, kCount>;

  __device__ void operator()(int64_t t, int64_t column) const {
    T sum[kCount] = {};
    for (int64_t place = t * num_choices; place < (t + 1) * num_choices; ++place) {
      const int64_t slot = slots[place];
      if (slot < 0) continue;
      CUDA_KERNEL_ASSERT(slot < num_rows);
      const Columns row = rows[slot * row_length + column];
      const T weight = weights == nullptr ? T(1) : weights[place];
      for (int c = 0; c < kCount; ++c) sum[c] += weight * widened(row.values[c]);
    }
    Columns result;
    for (int c = 0; c < kCount; ++c) result.values[c] = narrowed<scalar_t>(sum[c]);
    y[t * row_length + column] = result;
  }

  Columns* y;
  const Columns* rows;
  const int64_t* slots;
  const T* weights;
  int64_t row_length, num_rows, num_choices;
};

/// In the order of kernels::LaneSum, whose lanes are those of the warp.
template <typename scalar_t>
struct DotRows {
  using T = Wide<scalar_t>;

  __device__ void operator()(int64_t place, int lane) const {
    const int64_t slot = slots[place];
    T sum = 0;
    if (slot >= 0) {
      CUDA_KERNEL_ASSERT(slot < num_rows);
      const scalar_t *row = rows + slot * width, *other = y + place / num_choices * width;
      for (int64_t d = lane; d < width; d += kWarp) {
        const T product = widened(row[d]) * widened(other[d]);
        sum = d == lane ? product : sum + product;
      }
    }
    for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffffu, sum, half);
    if (lane == 0) dots[place] = sum;
  }

  T* dots;
  const scalar_t *rows, *y;
  const int64_t* slots;
  int64_t width, num_rows, num_choices;
};

template <class Columns>
void gather(const at::Tensor& rows_RD, const at::Tensor& source_TD, const at::Tensor& index_R) {
  const int64_t row_length = source_TD.size(1) * source_TD.element_size() / static_cast<int64_t>(sizeof(Columns));
  const GatherRows<Columns> body{static_cast<Columns*>(rows_RD.data_ptr()), static_cast<const Columns*>(source_TD.const_data_ptr()),
                                 index_R.const_data_ptr<int64_t>(), row_length, source_TD.size(0)};
  for_each_place(rows_RD.device(), rows_RD.size(0), row_length, body);
}

template <typename scalar_t, int kCount>
void sum(const at::Tensor& y_TD, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK) {
  using Columns = Pack<scalar_t, kCount>;
  const int64_t row_length = rows_RD.size(1) / kCount;
  const SumRows<scalar_t, kCount> body{static_cast<Columns*>(y_TD.data_ptr()),
                                       static_cast<const Columns*>(rows_RD.const_data_ptr()),
                                       slot_TK.const_data_ptr<int64_t>(),
                                       weight_TK.defined() ? weight_TK.const_data_ptr<Wide<scalar_t>>() : nullptr,
                                       row_length,
                                       rows_RD.size(0),
                                       slot_TK.size(1)};
  for_each_place(y_TD.device(), y_TD.size(0), row_length, body);
}

}  // namespace

void gather_rows_out(const at::Tensor& rows_RD, const at::Tensor& source_TD, const at::Tensor& index_R) {
  const int64_t element_bytes = source_TD.element_size();
  if (lie_in_packs(source_TD.size(1) * element_bytes, {rows_RD.data_ptr(), source_TD.const_data_ptr()})) {
    return gather<uint4>(rows_RD, source_TD, index_R);
  }
  switch (element_bytes) {
    case 8:
      return gather<uint64_t>(rows_RD, source_TD, index_R);
    case 4:
      return gather<uint32_t>(rows_RD, source_TD, index_R);
    case 2:
      return gather<uint16_t>(rows_RD, source_TD, index_R);
    default:
      TORCH_CHECK(false, "gather_rows: elements of ", element_bytes, " bytes");
  }
}

void sum_rows_out(const at::Tensor& y_TD, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK) {
  const bool in_packs = lie_in_packs(rows_RD.size(1) * rows_RD.element_size(), {y_TD.data_ptr(), rows_RD.const_data_ptr()});
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows_RD.scalar_type(), "sum_rows", [&] {
    in_packs ? sum<scalar_t, kPackBytes / sizeof(scalar_t)>(y_TD, rows_RD, slot_TK, weight_TK)
             : sum<scalar_t, 1>(y_TD, rows_RD, slot_TK, weight_TK);
  });
}

void dot_rows_out(const at::Tensor& dot_TK, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& y_TD) {
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows_RD.scalar_type(), "dot_rows", [&] {
    const DotRows<scalar_t> body{dot_TK.data_ptr<Wide<scalar_t>>(),
                                 rows_RD.const_data_ptr<scalar_t>(),
                                 y_TD.const_data_ptr<scalar_t>(),
                                 slot_TK.const_data_ptr<int64_t>(),
                                 rows_RD.size(1),
                                 rows_RD.size(0),
                                 slot_TK.size(1)};
    for_each_warp(dot_TK.device(), slot_TK.numel(), body);
  });
}

}  // namespace switchyard::cuda
