#include "training/model_update.h"

#include "parallel/gradient_sync.h"
#include "training/optimizer.h"
#include "training/selection_bias.h"

namespace switchyard {

void update_model(ModelInstance& model, const ProcessMesh& mesh, const OptimizerConfig& config, const UpdateNumbers& numbers,
                  const std::vector<RoutingSums>& layers) {
  const double limit = config.clip_grad_norm;
  const double scale = limit > 0.0 && numbers.grad_norm > limit ? limit / numbers.grad_norm : 1.0;
  adamw_step(*model.store, config, numbers.learning_rate, numbers.update, scale);
  gather_weights(*model.store, mesh);
  update_selection_bias(model.transformer, layers);
}

}  // namespace switchyard
