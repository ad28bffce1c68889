// The matrix products of all experts in one call, for a GPU: a call an expert would leave most of it idle.
// R rows (with padding) sorted by expert, e experts, I and O the widths of a product's input and output.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Which rows belong to which expert.
class ExpertGroups {
 public:
  ExpertGroups(const std::vector<int64_t>& row_counts_e, at::Device device);

  /// [R, O]: x_RI matrix_eIO[expert of the row]. matrix_eIO: each matrix, or its transpose, contiguous.
  at::Tensor rows(const at::Tensor& x_RI, const at::Tensor& matrix_eIO) const;

  /// [e, O, I]: grad_RO^T x_RI over the rows of each expert, zero for experts without rows. sum_eOI: what it is added to, and nothing is
  /// returned; undefined = none.
  at::Tensor matrices(const at::Tensor& grad_RO, const at::Tensor& x_RI, at::Tensor sum_eOI) const;

  /// bias_eO[expert of the row], [R, O].
  at::Tensor by_row(const at::Tensor& bias_eO) const;

 private:
  /// Whether at::_grouped_mm computes them in one kernel.
  bool go_to_grouped_mm(const at::Tensor& x_RI, int64_t other_width) const;
  at::Tensor products_of_matrices(const at::Tensor& grad_RO, const at::Tensor& x_RI) const;
  void multiply_matrices(const at::Tensor& grad_RO, const at::Tensor& x_RI, const at::Tensor& result_eOI, bool adds) const;

  std::vector<int64_t> row_counts_e_;
  int64_t num_rows_ = 0;
  at::Tensor count_e_;  ///< with padding
  at::Tensor end_e_;    ///< int32, as at::_grouped_mm takes it
};

}  // namespace switchyard
