// Activation recomputation (Chen et al. 2016, arXiv:1604.06174): a part of the model keeps only its input, and is computed again in
// backward.
#pragma once

#include <functional>
#include <vector>

#include "core/routing/routing.h"

namespace switchyard {

struct PassOutput {
  at::Tensor y_BSD;
  std::vector<RoutingStatistics> statistics;  ///< of the MoE layers inside, in order
};

/// A part of the model. Its parameters are those of the modules that it calls; it depends on nothing but its arguments.
using Pass = std::function<PassOutput(const at::Tensor& x_BSD, const TokenContext& context)>;

/// pass(x, context), of whose activations nothing is kept but x and what the routers decided. Backward runs the pass again, the routers and
/// the drops deciding as before, and goes on through it; the statistics' gradients flow into that second pass. Outputs and gradients have
/// the same bits as without recomputation. Without gradients, or outside training, this is just the pass. Collective, and so is its
/// backward, where the pass is.
PassOutput run_and_recompute(const Pass& pass, const at::Tensor& x_BSD, const TokenContext& context);

}  // namespace switchyard
