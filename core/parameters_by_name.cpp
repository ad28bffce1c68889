#include "core/parameters_by_name.h"

#include <map>

#include "core/moe_layer.h"

namespace switchyard {
namespace {

using ExpertsOfParameter = std::map<const at::TensorImpl*, HeldExperts>;

void add_experts(const torch::nn::Module& module, ExpertsOfParameter& held) {
  if (const auto* layer = module.as<MoeLayerImpl>()) {
    for (const auto& parameter : layer->experts()->parameters()) held[parameter.unsafeGetTensorImpl()] = layer->held_experts();
  }
  for (const auto& child : module.children()) add_experts(*child, held);
}

}  // namespace

std::vector<NamedParameter> parameters_by_name(const torch::nn::Module& module) {
  ExpertsOfParameter held;
  add_experts(module, held);
  std::vector<NamedParameter> all;
  for (const auto& item : module.named_parameters()) {
    NamedParameter parameter{.name = item.key(), .tensor = item.value(), .decays = item.value().dim() > 1 && !item.key().ends_with("bias")};
    if (const auto experts = held.find(item.value().unsafeGetTensorImpl()); experts != held.end()) {
      parameter.num_experts = experts->second.num_experts;
      parameter.first_expert = experts->second.first;
    }
    all.push_back(std::move(parameter));
  }
  return all;
}

}  // namespace switchyard
