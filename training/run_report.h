// What a run takes, for the log: memory for what is trained, and time for the sums of gradients.
#pragma once

#include <string>

#include "core/parameter_store.h"
#include "parallel/gradient_sync.h"
#include "parallel/process_mesh.h"
#include "training/activation_memory.h"

namespace switchyard {

/// Bytes that a rank's flat buffers take. The gaps between parameters are `padding` and in no other number.
struct StorageUse {
  double weights = 0.0;
  double gradients = 0.0;
  double state = 0.0;  ///< both moments, and the fp32 master weights of bf16 runs
  double padding = 0.0;
  double by_formula = 0.0;  ///< parameters x (6 + 12/D) in bf16, (8 + 8/D) in fp32, (16 + 16/D) in fp64; D = ranks that share the state

  double total() const { return weights + gradients + state; }
};
StorageUse storage_use(ParameterStore& store);

/// A line a rank: its storage, what the formula says, and the process's resident memory. Of more than 16 ranks only the two that take the
/// least and the most. Collective.
std::string describe_storage(ParameterStore& store, const ProcessMesh& mesh);

/// The most memory that a rank has taken so far, and what the formula says: the program itself (resident before there was a model), flat
/// storage, activations. Of the rank that took the most. Collective.
std::string describe_peak_memory(double storage_bytes, const ActivationBytes& activations, double program_bytes, Communicator& world);

/// How long this rank's host spent on a step's sums of gradients, and which share of it overlap has hidden behind backward. Empty where
/// there is nothing to sum.
std::string describe_gradient_sync(const GradientSync& sync, bool overlap, at::Device device);

}  // namespace switchyard
