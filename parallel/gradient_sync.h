// After backward: gradients summed over the ranks that share a parameter, and their one global norm.
#pragma once

#include "core/parameter_store.h"
#include "parallel/process_mesh.h"

namespace switchyard {

/// Sums the flat gradient buffers: dense parameters over `data` (all ranks), experts over `expert_data`. Never a mean: losses are already
/// divided by counts of the whole global batch, and an expert's gradient already holds all tokens of its expert group. Collective.
void sum_gradients(ParameterStore& store, const ProcessMesh& mesh);

/// The L2 norm over every logical parameter of the model, each counted once: dense parameters as any rank holds them, experts summed over
/// the `expert` axis. Formed in fp64. Call after sum_gradients. Collective.
double gradient_norm(ParameterStore& store, const ProcessMesh& mesh);

}  // namespace switchyard
