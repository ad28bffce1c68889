// What a user should know of a configuration before it runs: what depends on the layout, and what costs more than it seems to.
#pragma once

#include <string>
#include <vector>

#include "training/run_config.h"

namespace switchyard {

/// One sentence each. `world_size` 0: not known. Good for `switchyard check` and the first lines of a run's log.
std::vector<std::string> layout_notes(const RunConfig& config, int64_t world_size);

}  // namespace switchyard
