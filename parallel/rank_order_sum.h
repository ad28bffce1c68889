// The one order in which we add over ranks: that of the ranks. So the sum has the same bits on every rank, in every run, and under every
// communicator; a library's all-reduce promises none of these.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// parts_SN[s]: what rank s gives. Returns ((rank 0 + rank 1) + rank 2) + ..., bf16 added in fp32 and rounded once.
/// The parts are used up: the sum may stand in the first one's memory.
at::Tensor sum_in_rank_order(const at::Tensor& parts_SN);

/// How many of `count` elements each rank adds, as even as can be.
std::vector<int64_t> part_sizes(int64_t count, int64_t num_ranks);

}  // namespace switchyard
