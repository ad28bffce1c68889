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
  bool repeats_last = false;  ///< the last layout is run again, and in its plain form, and must give the same bits
};

/// One case in ten runs under mpirun, with 1, 2, 3 and 4 ranks in turn; 0 = as threads.
int64_t processes_of_case(int64_t index);

/// A function of (seed, index).
FuzzCase draw_case(uint64_t seed, int64_t index);

/// The MoE part of a model, without its pattern of blocks.
MoeConfig draw_moe(Draws& draws);
/// What the model's attention has beside its sizes.
void draw_attention(Draws& draws, ModelConfig& model);
/// Sequences that compete for experts or slots; 0 = those of a micro-batch, 1 where nothing competes.
int64_t group_sequences(const ModelConfig& model);

/// The parts of it. `ranks`: 0 = any number of threads that divides the batch.
LayoutCase draw_job(Draws& draws, int64_t processes);
LayoutCase draw_layout(Draws& draws, const LayoutCase& job, int64_t ranks);

/// The one-rank run that this layout must agree with: in one micro-batch, unless the job promises an answer only for micro-batches of the
/// same size (capacity or balance by micro-batch), or for as many sequences at a time on all ranks together (balance over those so far).
LayoutCase reference_of(const LayoutCase& layout);

/// The same ranks and micro-batches without ZeRO, buckets, overlap, chunks, recomputation and hierarchy: none of them changes a bit.
LayoutCase plain_form_of(const LayoutCase& layout);

std::string describe_attention(const ModelConfig& model);
std::string describe_job(const LayoutCase& job);
std::string describe_layout(const LayoutCase& layout);

}  // namespace switchyard
