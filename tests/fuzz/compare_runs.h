// Two runs of one job side by side, and one run with itself.
#pragma once

#include "tests/fuzz/findings.h"
#include "tests/fuzz/near_ties.h"

namespace switchyard {

/// What must hold between a layout's run and the one-rank run; infinity = not judged, only noted.
struct Bounds {
  double first_step;
  double all_steps;
  double tensors;
  double near_tie;
  double floor;  ///< of routing sums: the least value a token that a difference is taken relative to
};

constexpr double kNotJudged = std::numeric_limits<double>::infinity();
inline constexpr Bounds kFp64Bounds{1e-11, 1e-10, 1e-9, 1e-12, 1e-4};
inline constexpr Bounds kFp32Bounds{1e-5, kNotJudged, kNotJudged, 1e-5, 0.05};
/// With the reference's choices replayed.
inline constexpr Bounds kFp32ReplayBounds{1e-5, 1e-4, kNotJudged, 1e-5, 0.05};

/// L1: initial weights, to the bit.
void compare_initial_weights(const LoggedRun& reference, const LoggedRun& other, Findings& findings);

/// L3 and L4 over the first `num_steps` steps; a flip at a near tie ends the comparison and is noted.
void compare_runs(const LayoutCase& layout, const LoggedRun& reference, const LoggedRun& other, int64_t num_steps, const Bounds& bounds,
                  Findings& findings);

/// L5: everything, to the bit.
void compare_bits(const LoggedRun& once, const LoggedRun& again, const std::string& quantity, Findings& findings);

/// L2 and A: every token of every sample is routed by one rank, and assigned = kept + dropped = tokens x top_k, by expert. What all ranks
/// must hold alike is alike; every number is finite.
void check_accounts(const LayoutCase& layout, const LoggedRun& run, Findings& findings);

}  // namespace switchyard
