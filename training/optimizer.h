// AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) over the flat buffers of a ParameterStore.
#pragma once

#include "core/parameter_store.h"
#include "training/run_config.h"

namespace switchyard {

/// One update, in place, of every element whose state is held here: master weights and moments, then the bf16 weights. With ZeRO-1,
/// gather_weights brings the ranks' parts together afterwards. Decoupled decay, not on norms and biases. `gradient_scale` multiplies the
/// gradients first (clipping). `step` counts updates from 1, for the bias correction.
void adamw_step(ParameterStore& store, const OptimizerConfig& config, double learning_rate, int64_t step, double gradient_scale);

}  // namespace switchyard
