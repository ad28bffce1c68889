#include "training/token_window.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "training/documents.h"

namespace switchyard {

Batch make_batch(int64_t num_rows, int64_t sequence_length, const DataConfig& config) {
  const auto zeros_where = [&](bool is_wanted) { return is_wanted ? at::zeros({num_rows, sequence_length}, at::kLong) : at::Tensor(); };
  return {.inputs_BS = at::zeros({num_rows, sequence_length}, at::kLong),
          .targets_BS = at::zeros({num_rows, sequence_length}, at::kLong),
          .mask_BS = at::zeros({num_rows, sequence_length}, at::kBool),
          .global_sample_B = at::zeros({num_rows}, at::kLong),
          .domain_B = at::zeros({num_rows}, at::kLong),
          .document_BS = zeros_where(config.reset_attention_mask),
          .position_BS = zeros_where(config.reset_position_ids)};
}

void fill_row(Batch& batch, int64_t row, const TokenStream& stream, TokenRange tokens) {
  const int64_t sequence_length = batch.inputs_BS.size(1);
  const int64_t num_targets = tokens.size() - 1;
  TORCH_CHECK(1 <= num_targets && num_targets <= sequence_length, "fill_row: a window of ", tokens.size(), " tokens for sequence length ",
              sequence_length);
  std::vector<int64_t> window(tokens.size());
  stream.read(tokens.begin, tokens.size(), window.data());
  std::copy_n(window.data(), num_targets, batch.inputs_BS.mutable_data_ptr<int64_t>() + row * sequence_length);
  std::copy_n(window.data() + 1, num_targets, batch.targets_BS.mutable_data_ptr<int64_t>() + row * sequence_length);
  std::fill_n(batch.mask_BS.mutable_data_ptr<bool>() + row * sequence_length, num_targets, true);
  const auto inputs_S = batch.inputs_BS[row];
  if (batch.document_BS.defined()) batch.document_BS[row].copy_(document_numbers(inputs_S, stream.end_of_document().value()));
  if (batch.position_BS.defined()) batch.position_BS[row].copy_(document_positions(inputs_S, stream.end_of_document().value()));
}

}  // namespace switchyard
