// Bytes between the ranks of a group, in messages between pairs. MPI's own exchanges count and place rows in int, and ranks whose sums of
// rows differ could not agree on where that is too little; here places have 64 bits and a message is never longer than a limit, which the
// two sides of each pair apply to the same number. Open MPI's non-blocking all-to-all and all-gather are the same messages between pairs.
// Internal to the mpi_*.cpp files.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/mpi_work.h"

namespace switchyard {

/// Every rank's bytes for every other: one peer's behind the other's, both in the order of ranks. Adds the requests to `work`; both
/// memories must stay until it is done. Collective.
void start_all_to_all(MpiGroup& group, MpiWork& work, const void* send, const std::vector<int64_t>& send_bytes, void* receive,
                      const std::vector<int64_t>& receive_bytes);

/// In place: rank r's part of `memory`, bytes[r] long and behind those of the ranks before it, goes to all. Collective.
void start_gather(MpiGroup& group, MpiWork& work, void* memory, const std::vector<int64_t>& bytes);

/// Collective.
void start_broadcast(MpiGroup& group, MpiWork& work, void* memory, int64_t bytes, int64_t root);

}  // namespace switchyard
