#include "core/grouped_products.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include <ATen/ATen.h>

#include "core/cuda/grouped_products.h"
#include "core/dispatcher.h"
#include "core/expert_computation.h"
#include "core/host_copy.h"
#include "core/row_ops.h"

namespace switchyard {
namespace {

/// What at::_grouped_mm asks of both operands: rows of whole 16-byte units.
bool has_whole_units(const at::Tensor& x_RI, int64_t other_width) {
  constexpr int64_t kUnitBytes = 16;
  return x_RI.size(1) * x_RI.element_size() % kUnitBytes == 0 && other_width * x_RI.element_size() % kUnitBytes == 0;
}

/// The most experts that LibTorch's kernel takes (aten/src/ATen/native/cuda/GroupMM.cu).
constexpr int64_t kMostGroups = 1023;

/// Without rows there is nothing to multiply, and nobody has to be able to.
void multiply(const std::vector<MatrixProduct>& products, bool adds) {
  if (!products.empty()) cuda::multiply_all(products, adds);
}

}  // namespace

ExpertGroups::ExpertGroups(const std::vector<int64_t>& row_counts_e, at::Device device) : row_counts_e_(row_counts_e) {
  std::vector<int64_t> padded_e;
  for (const int64_t count : row_counts_e) padded_e.push_back(padded_rows(count));
  num_rows_ = std::accumulate(padded_e.begin(), padded_e.end(), int64_t{0});
  count_e_ = to_device(at::tensor(padded_e, at::kLong), device);
  end_e_ = count_e_.cumsum(0).to(at::kInt);
}

bool ExpertGroups::go_to_grouped_mm(const at::Tensor& x_RI, int64_t other_width) const {
  if (num_rows_ == 0) return false;
  return x_RI.is_cpu() || (count_e_.size(0) <= kMostGroups && cuda::has_grouped_kernel(x_RI) && has_whole_units(x_RI, other_width));
}

at::Tensor ExpertGroups::rows(const at::Tensor& x_RI, const at::Tensor& matrix_eIO) const {
  const int64_t O = matrix_eIO.size(2);
  if (go_to_grouped_mm(x_RI, O)) return at::_grouped_mm(x_RI, matrix_eIO, end_e_);
  auto y_RO = at::empty({num_rows_, O}, x_RI.options());
  std::vector<MatrixProduct> products;
  for (const auto& [expert, first, count] : row_blocks(row_counts_e_)) {
    products.push_back({x_RI.narrow(0, first, count), matrix_eIO[expert], y_RO.narrow(0, first, count)});
  }
  multiply(products, /*adds=*/false);
  return y_RO;
}

at::Tensor ExpertGroups::matrices(const at::Tensor& grad_RO, const at::Tensor& x_RI, at::Tensor sum_eOI) const {
  const bool adds_at_once = sum_eOI.defined() && sum_eOI.scalar_type() == x_RI.scalar_type() && !go_to_grouped_mm(x_RI, grad_RO.size(1));
  if (adds_at_once) {
    multiply_matrices(grad_RO, x_RI, sum_eOI, /*adds=*/true);
    return {};
  }
  auto product_eOI = products_of_matrices(grad_RO, x_RI);
  if (!sum_eOI.defined()) return product_eOI;
  sum_eOI.add_(product_eOI);
  return {};
}

at::Tensor ExpertGroups::products_of_matrices(const at::Tensor& grad_RO, const at::Tensor& x_RI) const {
  at::Tensor product_eOI;
  if (go_to_grouped_mm(x_RI, grad_RO.size(1))) {
    product_eOI = at::_grouped_mm(grad_RO.t(), x_RI, end_e_);
  } else {
    product_eOI = at::empty({count_e_.size(0), grad_RO.size(1), x_RI.size(1)}, x_RI.options());
    multiply_matrices(grad_RO, x_RI, product_eOI, /*adds=*/false);
  }
  // Whatever stands where there were no rows, NaN too.
  const bool all_have_rows = std::find(row_counts_e_.begin(), row_counts_e_.end(), 0) == row_counts_e_.end();
  return all_have_rows ? product_eOI : product_eOI.masked_fill_((count_e_ == 0).view({-1, 1, 1}), 0);
}

void ExpertGroups::multiply_matrices(const at::Tensor& grad_RO, const at::Tensor& x_RI, const at::Tensor& result_eOI, bool adds) const {
  std::vector<MatrixProduct> products;
  for (const auto& [expert, first, count] : row_blocks(row_counts_e_)) {
    products.push_back({grad_RO.narrow(0, first, count).t(), x_RI.narrow(0, first, count), result_eOI[expert]});
  }
  multiply(products, adds);
}

at::Tensor ExpertGroups::by_row(const at::Tensor& bias_eO) const {
  const std::optional<int64_t> num_rows = num_rows_;  // the size, without which the host would wait for the sum
  return gather_rows(bias_eO, at::repeat_interleave(count_e_, num_rows));
}

}  // namespace switchyard
