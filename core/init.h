// Initial weights by (seed, tensor name, global expert number) and nothing else: never by rank, layout or order of construction.
#pragma once

#include <vector>

#include "core/model_config.h"
#include "core/parameter_store.h"

namespace switchyard {

/// Fills fp32 CPU parameters: norms 1, biases and noisy gates 0, matrices normal(0, init_std), those that write into the residual stream
/// ("output", "down") divided by sqrt(2 num_layers). One generator a tensor, one an expert.
void initialize_parameters(const std::vector<NamedParameter>& parameters, const ModelConfig& config, uint64_t seed);

}  // namespace switchyard
