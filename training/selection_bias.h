// Loss-free balancing (Wang et al. 2024, arXiv:2408.15664; DeepSeek-V3, arXiv:2412.19437): after each step the bias that the router adds to
// an expert's score for the choice moves towards what brings it its share.
#pragma once

#include <vector>

#include "core/routing/statistics.h"
#include "core/transformer.h"

namespace switchyard {

/// bias_i += update x sign(mean assigned - assigned_i) in every MoE layer. `layers`: the step's sums over all ranks, so that all ranks do
/// the same. Nothing without model.moe.bias_update.
void update_selection_bias(const Transformer& transformer, const std::vector<RoutingSums>& layers);

}  // namespace switchyard
