// What must be counted over ranks: the second of the three seams (TokenDispatcher, global_sums, GradientSync) by which parallelism enters.
#pragma once

#include <vector>

#include "parallel/communicator.h"

namespace switchyard {

/// The element-wise sums of float64 tensors over all ranks, in one exchange. Collective: same shapes on every rank.
std::vector<at::Tensor> global_sums(const std::vector<at::Tensor>& local, Communicator& ranks);

}  // namespace switchyard
