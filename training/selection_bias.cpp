#include "training/selection_bias.h"

namespace switchyard {

void update_selection_bias(const Transformer& transformer, const std::vector<RoutingSums>& layers) {
  const auto& moe = transformer->config().moe;
  if (!moe || moe->bias_update == 0.0) return;
  at::NoGradGuard no_grad;
  const auto modules = transformer->moe_layers();
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto assigned_E = layers[l].assigned_E();
    auto bias_E = modules[l]->router()->selection_bias();
    bias_E.add_((assigned_E.mean() - assigned_E).sign().to(bias_E.options()), moe->bias_update);
  }
}

}  // namespace switchyard
