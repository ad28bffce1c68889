// The learning rate by step.
#pragma once

#include "training/run_config.h"

namespace switchyard {

/// Learning rate of a step when the share `progress` in [0, 1] of the run is done (steps done / training.steps, or of training.max_minutes
/// where that is further on). Warm-up is linear over warmup_steps; then from the peak to min_ratio x peak: `cosine`, `linear`, `wsd` (flat,
/// then linear over the last decay_fraction; Hu et al. 2024, arXiv:2404.06395), `constant` (no decay). step counts from 1; warm-up step w
/// of W has peak * w / W.
double learning_rate(const ScheduleConfig& schedule, double peak, int64_t step, int64_t total_steps, double progress);

}  // namespace switchyard
