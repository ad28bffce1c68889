// Where two runs chose differently for the first time, and whether rounding may have decided.
#pragma once

#include <optional>
#include <string>

#include "tests/fuzz/routing_log.h"

namespace switchyard {

/// The first block in which a choice or a drop differs. What comes after it follows from it.
struct Flip {
  int64_t step = 0;  ///< from 1
  int64_t layer = 0;
  int64_t num_tokens = 0;
  double margin = 0.0;       ///< the largest of the flipped tokens
  bool is_near_tie = false;  ///< every flipped token's margin is below the bound
  std::string describe() const;
};

/// A choice's margin: the difference of the logits of the experts that changed places, over the range of the token's logits. A drop's: the
/// difference of the weights that competed (they are at most 1). Without scores in the drop order nothing can tie there.
/// `bound`: 1e-12 in fp64, 1e-5 in fp32. `num_steps`: how many to compare.
std::optional<Flip> first_flip(const LayoutCase& job, const LoggedRun& reference, const LoggedRun& other, int64_t num_steps, double bound);

}  // namespace switchyard
