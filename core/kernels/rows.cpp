#include "core/kernels/rows.h"

#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>

namespace switchyard::kernels {

bool has_kernels(const at::Tensor& x) {
  const auto dtype = x.scalar_type();
  return x.is_cpu() && x.layout() == at::kStrided && (dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16);
}

bool RowLayout::fold(const at::Tensor& x) {
  if (x.dim() == 0 || (x.numel() > 0 && x.size(-1) > 1 && x.stride(-1) != 1)) return false;
  width = x.size(-1);
  for (int64_t i = 0; i + 1 < x.dim(); ++i) {
    const int64_t size = x.size(i), stride = x.stride(i);
    num_rows *= size;
    if (size == 1) continue;
    if (num_dimensions > 0 && strides[num_dimensions - 1] == size * stride) {
      sizes[num_dimensions - 1] *= size;
      strides[num_dimensions - 1] = stride;
    } else if (num_dimensions == kMaxDimensions) {
      return false;
    } else {
      sizes[num_dimensions] = size;
      strides[num_dimensions++] = stride;
    }
  }
  return true;
}

bool RowLayout::fits(const at::Tensor& x) {
  return RowLayout().fold(x);
}

RowLayout::RowLayout(const at::Tensor& x) {
  TORCH_INTERNAL_ASSERT(fold(x), "no rows: sizes ", x.sizes(), ", strides ", x.strides());
}

std::vector<int64_t> memory_order(const at::Tensor& x) {
  std::vector<int64_t> order(x.dim());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end() - 1, [&](int64_t a, int64_t b) { return x.stride(a) > x.stride(b); });
  return order;
}

at::Tensor permuted_back(const at::Tensor& permuted, const std::vector<int64_t>& order) {
  std::vector<int64_t> back(order.size());
  for (size_t i = 0; i < order.size(); ++i) back[order[i]] = static_cast<int64_t>(i);
  return permuted.permute(back);
}

at::Tensor with_dense_rows(const at::Tensor& x) {
  return RowLayout::fits(x) ? x : x.contiguous();
}

}  // namespace switchyard::kernels
