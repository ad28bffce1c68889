// MPI_Alltoallv as it is, for benchmarks to compare with.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Equal parts of `send`, one a rank of the world, to `receive`; contiguous CPU tensors of one size, under 2^31 bytes. MPI must be running
/// (make_mpi_communicator). No deadline and no check: a rank that is missing hangs the job. Collective.
void bare_mpi_all_to_all(const at::Tensor& send, at::Tensor receive);

}  // namespace switchyard
