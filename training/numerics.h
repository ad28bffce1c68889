// What `training.precision`, `training.device` and `training.threads` mean on this machine.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"
#include "training/run_config.h"

namespace switchyard {

/// `auto`: bf16 where the processor has bf16 matrix instructions (AVX-512 BF16 or AMX; every CUDA device), else fp32.
Precision resolve_precision(Precision wanted, at::Device device);
at::ScalarType run_dtype(Precision resolved);
/// "auto", "fp32", "bf16", "fp64", and back. Errors of the way back: UserError for another word.
std::string to_string(Precision precision);
Precision precision_from_string(const std::string& name);

/// `auto`: CUDA where this build has it and a device is there. Errors: UserError when `cuda` is asked for and there is none.
at::Device resolve_device(Device wanted, int64_t local_rank);

/// Sets the intra-op threads: `wanted`, or when 0 the CPUs this process may use; where the launcher has not bound ranks to cores of their
/// own, its share of them. torch under mpirun starts with one thread whatever the binding, so this is always called. Returns the number.
int64_t set_threads(int64_t wanted, const LaunchInfo& launch);

}  // namespace switchyard
