// Sums of rows and their products, as core/row_ops.h describes them. CPU; fp64, fp32, bf16 (computed in fp32). All tensors contiguous.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::kernels {

/// A slot or index is -1 or names one of num_rows rows.
inline void check_row_in_range(int64_t index, int64_t num_rows) {
  TORCH_CHECK(index >= -1 && index < num_rows, "row ", index, " of ", num_rows, " rows");
}

/// y_TD[t] = sum over k, in this order, of weight_TK[t, k] * rows_RD[slot_TK[t, k]]. weight_TK may be undefined.
void sum_rows_out(const at::Tensor& y_TD, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK);

/// dot_TK[t, k] = rows_RD[slot_TK[t, k]] . y_TD[t], in an order that D alone decides.
void dot_rows_out(const at::Tensor& dot_TK, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& y_TD);

}  // namespace switchyard::kernels
