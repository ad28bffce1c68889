// The rules of attention and positions, for find_faults().
#pragma once

#include <vector>

#include "core/model_config.h"

namespace switchyard {

/// As find_faults(), of the sections model.attention and model.rope and the keys of `model` that speak of attention.
std::vector<ConfigFault> find_attention_faults(const ModelConfig& config);

}  // namespace switchyard
