// Who is told how far a rank has come: the watchdog's log, and tests that end a rank at a chosen place.
#pragma once

#include <cstdint>

namespace switchyard {

/// kForward: what of a pass has no phase of its own.
enum class Phase {
  kInit,
  kData,
  kForward,
  kEmbedding,
  kAttention,
  kRouter,
  kDispatch,
  kExperts,
  kCombine,
  kLoss,
  kBackward,
  kGradientSync,
  kOptimizer,
  kEvaluation,
  kCheckpoint
};

inline constexpr int64_t kNoLayer = -1;  ///< none in particular

/// "gradient sync", as logs say it.
const char* to_string(Phase phase);

class PhaseObserver {
 public:
  virtual ~PhaseObserver() = default;
  /// This rank begins step `step`, from 1.
  virtual void start_step(int64_t step) = 0;
  /// This rank enters `phase`; `layer` may be kNoLayer. Cheap, and allowed to throw in tests. Called by one thread at a time: the one
  /// that trains, in backward one of autograd's.
  virtual void enter(Phase phase, int64_t layer) = 0;
  /// The same of backward: of what forward called `part`. Who does not tell the parts apart hears of kBackward.
  virtual void enter_backward(Phase /*part*/, int64_t layer) { enter(Phase::kBackward, layer); }
};

/// For holders of an observer that may be null.
inline void enter(PhaseObserver* observer, Phase phase, int64_t layer = kNoLayer) {
  if (observer) observer->enter(phase, layer);
}
inline void enter_backward(PhaseObserver* observer, Phase part, int64_t layer = kNoLayer) {
  if (observer) observer->enter_backward(part, layer);
}

}  // namespace switchyard
