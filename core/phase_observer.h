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
  /// This rank begins step `step`, from 1.
  virtual void start_step(int64_t step) = 0;
  /// This rank enters `phase`; layer -1 = none in particular. Cheap, and allowed to throw in tests. Called by one thread at a time: the one
  /// that trains, in backward one of autograd's.
  virtual void enter(Phase phase, int64_t layer) = 0;
};

/// For holders of an observer that may be null.
inline void enter(PhaseObserver* observer, Phase phase, int64_t layer = -1) {
  if (observer) observer->enter(phase, layer);
}

}  // namespace switchyard
