// What the fuzz tries: a random small job, and random layouts of it.
#pragma once

#include <string>
#include <vector>

#include "tests/fuzz/draws.h"
#include "tests/layout_run.h"

namespace switchyard {

struct FuzzCase {
  uint64_t seed = 0;
  int64_t index = 0;
  int64_t processes = 0;  ///< ranks are processes under mpirun, so many; 0 = they are threads
  LayoutCase job = {};    ///< on one rank
  std::vector<LayoutCase> layouts = {};
  bool repeats_last = false;  ///< the last layout is run twice and must give the same bits
};

/// One case in ten runs under mpirun, with 1, 2, 3 and 4 ranks in turn; 0 = as threads.
int64_t processes_of_case(int64_t index);

/// A function of (seed, index).
FuzzCase draw_case(uint64_t seed, int64_t index);

/// The parts of it. `ranks`: 0 = any number of threads that divides the batch.
LayoutCase draw_job(Draws& draws, int64_t processes);
LayoutCase draw_layout(Draws& draws, const LayoutCase& job, int64_t ranks);

/// True where every micro-batch is a scope of its own: capacity, or a balancing term.
bool answer_depends_on_micro_batch(const ModelConfig& model);

/// The one-rank run that this layout must agree with: with other micro-batches where the answer does not depend on them.
LayoutCase reference_of(const LayoutCase& layout);

std::string describe_job(const LayoutCase& job);
std::string describe_layout(const LayoutCase& layout);

}  // namespace switchyard
