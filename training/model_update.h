// What happens to a model once a step's gradients are summed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/routing/statistics.h"
#include "parallel/process_mesh.h"
#include "training/model_instance.h"
#include "training/run_config.h"

namespace switchyard {

struct UpdateNumbers {
  double grad_norm = 0.0;  ///< over all ranks; optimizer.clip_grad_norm bounds it
  double learning_rate = 0.0;
  int64_t update = 1;  ///< counts from 1
};

/// AdamW with clipping, the parts of the weights that the ranks hold (ZeRO-1) brought together, the routers' selection biases moved.
/// layers: the step's sums over all ranks. Collective.
void update_model(ModelInstance& model, const ProcessMesh& mesh, const OptimizerConfig& config, const UpdateNumbers& numbers,
                  const std::vector<RoutingSums>& layers);

}  // namespace switchyard
