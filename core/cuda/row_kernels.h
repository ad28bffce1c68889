// The row operations of core/row_ops.h on a GPU: one pass each, in the order of additions that the CPU has, and so with the same bits.
// Tensors contiguous, results allocated by the caller. They do not wait; a slot or index that names no row stops the kernel.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard::cuda {

/// rows_RD[r] = source_TD[index_R[r]], zero where the index is -1.
void gather_rows_out(const at::Tensor& rows_RD, const at::Tensor& source_TD, const at::Tensor& index_R);

/// y_TD[t] = sum over k, in this order, of weight_TK[t, k] * rows_RD[slot_TK[t, k]]. weight_TK may be undefined.
void sum_rows_out(const at::Tensor& y_TD, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK);

/// dot_TK[t, k] = rows_RD[slot_TK[t, k]] . y_TD[t], zero where the slot is -1.
void dot_rows_out(const at::Tensor& dot_TK, const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& y_TD);

}  // namespace switchyard::cuda
