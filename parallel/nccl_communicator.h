// Processes with one GPU each that exchange CUDA tensors over NCCL.
#pragma once

#include "parallel/communicator.h"

namespace switchyard {

/// The ranks of `bootstrap` (whose only tasks are to carry NCCL's id and to end the job), each with the GPU `device`, one GPU a rank.
/// Exchanges run on a stream of the communicator's own, behind what the calling thread's current stream has been given before; wait() puts
/// what comes after on the current stream behind the exchange and does not hold up the host. A thread watches all of them: one that fails
/// or takes longer than timeout_seconds ends the process with exit code 1 and a message, with this rank's position by `progress`. barrier()
/// and split() do hold up the host. Makes `device` the calling thread's current one, so that page-locked memory is taken from its context
/// and not from GPU 0's. Groups made by split() live as long as the last of them. Collective. Errors: UserError where this build or this
/// machine cannot do it, RunError when NCCL fails or the ranks do not meet in time.
CommunicatorPtr make_nccl_communicator(CommunicatorPtr bootstrap, at::Device device, int64_t timeout_seconds,
                                       const Progress* progress = nullptr);

}  // namespace switchyard
