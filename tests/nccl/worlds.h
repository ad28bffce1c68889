// The communicators of this test process: MPI can be started only once.
#pragma once

#include "parallel/communicator.h"

namespace switchyard {

/// Between the hosts, by MPI.
CommunicatorPtr host_world();
/// Between the GPUs, by NCCL, over the same ranks.
CommunicatorPtr gpu_world();
at::Device gpu();

}  // namespace switchyard
