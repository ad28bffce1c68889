// Who is told how far a rank has come: the watchdog's log, and tests that end a rank at a chosen place.
#pragma once

#include <cstdint>

namespace switchyard {

enum class Phase { kInit, kData, kForward, kDispatch, kExperts, kCombine, kBackward, kGradientSync, kOptimizer, kEvaluation, kCheckpoint };

/// "gradient sync", as logs say it.
const char* to_string(Phase phase);

class PhaseObserver {
 public:
  virtual ~PhaseObserver() = default;
  /// This rank enters `phase`; layer -1 = none in particular. Cheap, and allowed to throw in tests. Called by the training thread only.
  virtual void enter(Phase phase, int64_t layer) = 0;
};

}  // namespace switchyard
