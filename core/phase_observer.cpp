#include "core/phase_observer.h"

#include <c10/util/Exception.h>

namespace switchyard {

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::kInit:
      return "init";
    case Phase::kData:
      return "data";
    case Phase::kForward:
      return "forward";
    case Phase::kEmbedding:
      return "embedding";
    case Phase::kAttention:
      return "attention";
    case Phase::kRouter:
      return "router";
    case Phase::kDispatch:
      return "dispatch";
    case Phase::kExperts:
      return "experts";
    case Phase::kCombine:
      return "combine";
    case Phase::kLoss:
      return "loss";
    case Phase::kBackward:
      return "backward";
    case Phase::kGradientSync:
      return "gradient sync";
    case Phase::kOptimizer:
      return "optimizer";
    case Phase::kEvaluation:
      return "evaluation";
    case Phase::kCheckpoint:
      return "checkpoint";
  }
  TORCH_INTERNAL_ASSERT(false);
}

}  // namespace switchyard
