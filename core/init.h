// Initial weights by (seed, tensor name, global expert number) and nothing else: never by rank, layout or order of construction.
#pragma once

#include <vector>

#include "core/model_config.h"
#include "core/parameter_store.h"

namespace switchyard {

/// Fills fp32 CPU parameters, by the ends of their names: norms ("norm.weight") 1, "bias" and noisy gates 0, all others normal(0,
/// init_std), those that write into the residual stream (".output", ".down") divided by sqrt(2 num_layers). One generator a tensor, one an
/// expert: ranks that call it with the same names and seed hold the same replicated weights, and each expert's are the same wherever it
/// stands.
void initialize_parameters(const std::vector<NamedParameter>& parameters, const ModelConfig& config, uint64_t seed);

}  // namespace switchyard
