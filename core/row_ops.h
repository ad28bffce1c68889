// Moving rows: the gather that lays tokens out by expert and the ordered sum that brings them back. Each is the other's derivative.
// T tokens, K choices a token at most, R rows, D width. Index -1 means "no row". CPU and CUDA, with the same bits; indices int64.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// rows_RD[r] = source_TD[index_R[r]], zero where the index is -1. No autograd.
at::Tensor gather_rows(const at::Tensor& source_TD, const at::Tensor& index_R);

/// y_TD[t] = sum over k, in this order, of weight_TK[t, k] * rows_RD[slot_TK[t, k]]; a slot of -1 adds nothing. Summed in
/// max(fp32, rows' dtype) and returned in the rows' dtype. weight_TK undefined = 1. Deterministic. No autograd.
at::Tensor sum_rows(const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK = {});

/// gather_rows with autograd; backward is sum_rows over slot_TK, which names the rows that took each token (in the order of the sum).
at::Tensor dispatch_rows(const at::Tensor& source_TD, const at::Tensor& index_R, const at::Tensor& slot_TK);

/// sum_rows with autograd: by rows_RD and by weight_TK (of dtype max(fp32, rows' dtype)). No row may be named twice.
at::Tensor combine_rows(const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK);

/// slot_TK from lists: slot_TK[token_N[n], choice_N[n]] = row_N[n], -1 elsewhere.
at::Tensor slots_by_token(const at::Tensor& token_N, const at::Tensor& choice_N, const at::Tensor& row_N, int64_t num_tokens,
                          int64_t num_choices);

/// label_R[r] = label_T[index_R[r]], -1 where the index is -1.
at::Tensor labels_of(const at::Tensor& index_R, const at::Tensor& label_T);

/// The inverse of a list of distinct places: inverse_R[place_N[n]] = n, -1 where no n goes. place_N may hold -1.
at::Tensor invert_places(const at::Tensor& place_N, int64_t num_places);

}  // namespace switchyard
