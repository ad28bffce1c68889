// What every communicator demands of an exchange before any byte moves.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// One row count a peer on both sides, that add up to the tensors' rows; the same row shape and dtype; contiguous.
void check_all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, const at::Tensor& receive,
                      const std::vector<int64_t>& receive_rows, int64_t num_ranks);

void check_contiguous(const char* operation, const at::Tensor& tensor);

/// A contiguous tensor of one dimension, cut into one part a rank.
void check_parts(const char* operation, const at::Tensor& tensor, const std::vector<int64_t>& parts, int64_t num_ranks);

void check_root(int64_t root, int64_t num_ranks);

}  // namespace switchyard
