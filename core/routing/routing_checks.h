// The rules that a configuration of routing, balancing and capacity must keep, whatever the model's size.
#pragma once

#include <vector>

#include "core/model_config.h"

namespace switchyard {

/// Empty = good. The routing rule's own check is asked too.
std::vector<ConfigFault> find_routing_faults(const MoeConfig& config);

}  // namespace switchyard
