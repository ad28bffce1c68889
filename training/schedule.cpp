#include "training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace switchyard {
namespace {

/// From 1 at the start of the decay to 0 at its end.
double decay(const ScheduleConfig& schedule, double share) {
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return 1.0;
    case ScheduleKind::kCosine:
      return 0.5 * (1.0 + std::cos(std::numbers::pi * share));
    case ScheduleKind::kLinear:
      return 1.0 - share;
    case ScheduleKind::kWsd:
      return std::min(1.0, (1.0 - share) / schedule.decay_fraction);
  }
  return 1.0;
}

}  // namespace

double learning_rate(const ScheduleConfig& schedule, double peak, int64_t step, int64_t total_steps, double progress) {
  if (step <= schedule.warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  const double warm_share = static_cast<double>(schedule.warmup_steps) / static_cast<double>(std::max<int64_t>(total_steps, 1));
  const double share = std::clamp((progress - warm_share) / std::max(1.0 - warm_share, 1e-12), 0.0, 1.0);
  return peak * (schedule.min_ratio + (1.0 - schedule.min_ratio) * decay(schedule, share));
}

}  // namespace switchyard
