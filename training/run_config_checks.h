// Rules of a configuration that join several keys.
#pragma once

#include <vector>

#include "training/run_config.h"

namespace switchyard {

/// Those beyond the model's own shape (find_faults(ModelConfig)). `world_size` 0: not known, the rules about ranks are left out.
std::vector<ConfigFault> find_run_faults(const RunConfig& config, int64_t world_size);

}  // namespace switchyard
