// How a model is computed, as far as its answer does not depend on it.
#pragma once

namespace switchyard {

/// What is computed again in backward instead of kept: nothing, the MoE layers, or whole blocks.
enum class Recompute { kNone, kMoe, kBlock };

struct ExecutionConfig {
  Recompute recompute = Recompute::kNone;
  bool overlap_shared_expert = true;  ///< the shared expert computes while rows travel, else behind the combine; the same bits
};

}  // namespace switchyard
