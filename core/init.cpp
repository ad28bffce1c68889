#include "core/init.h"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>

#include "core/hash.h"
#include "core/routing/routing_rule.h"

namespace switchyard {
namespace {

void fill_normal(const at::Tensor& tensor, double standard_deviation, const std::string& name, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(xxh3(name, seed));
  tensor.normal_(0.0, standard_deviation, generator);
}

/// Noisy gates start without preferences and with equal noise: both maps are zero (Shazeer et al. 2017, appendix A).
bool starts_at_zero(const std::string& name, const ModelConfig& config) {
  return config.moe && routing_rules().at(config.moe->router).maps.noise && name.find(".router.") != std::string::npos;
}

double standard_deviation(const std::string& name, const ModelConfig& config) {
  const bool writes_residual = name.ends_with(".output") || name.ends_with(".down");
  return writes_residual ? config.init_std / std::sqrt(2.0 * static_cast<double>(config.num_layers)) : config.init_std;
}

}  // namespace

void initialize_parameters(const std::vector<NamedParameter>& parameters, const ModelConfig& config, uint64_t seed) {
  at::NoGradGuard no_grad;
  for (const auto& parameter : parameters) {
    const auto& name = parameter.name;
    const bool is_norm = name.ends_with("norm.weight");
    if (is_norm || name.ends_with("bias") || starts_at_zero(name, config)) {
      parameter.tensor.fill_(is_norm ? 1.0 : 0.0);
    } else if (parameter.num_experts == 0) {
      fill_normal(parameter.tensor, standard_deviation(name, config), name, seed);
    } else {
      for (int64_t e = 0; e < parameter.tensor.size(0); ++e) {
        fill_normal(parameter.tensor[e], standard_deviation(name, config), name + "#" + std::to_string(parameter.first_expert + e), seed);
      }
    }
  }
}

}  // namespace switchyard
