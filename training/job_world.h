// The ranks of a job that the command line starts.
#pragma once

#include <ATen/core/Tensor.h>

#include "training/commands.h"

namespace switchyard {

/// MPI between processes; between their GPUs NCCL, and MPI for what stays on the host. One process: no MPI. Collective. Errors:
/// AgreedError where some ranks have a GPU and others have none.
CommunicatorPtr make_world(const Invocation& invocation, at::Device device, int64_t timeout_seconds);

}  // namespace switchyard
