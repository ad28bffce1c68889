// Where an assignment's row stands: pure index arithmetic, on the device of the routing, without host synchronisation.
// T tokens here, N assignments, E all experts, S sources (ranks that send), e experts held here, A arrivals (rows that arrived, unpadded).
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/routing/routing.h"

namespace switchyard {

/// The assignments in the order in which their rows are sent: by (expert, token, choice); those that go nowhere at the end.
struct SortedAssignments {
  at::Tensor token_N;   ///< int64
  at::Tensor choice_N;  ///< int64
  at::Tensor counts_E;  ///< int64, assignments of each expert; those that go nowhere are not counted
};
SortedAssignments sort_by_expert(const Routing& routing, int64_t num_tokens);

/// Rows arrive by (source, expert, order of the source) and are to stand by (expert, source, order of the source), each expert's rows
/// padded to a multiple of kRowMultiple. row_A[a] = where arrival a stands. counts_Se: int64 rows of each source for each expert.
at::Tensor rows_of_arrivals(const at::Tensor& counts_Se, int64_t num_arrivals);

/// A rank's experts in chunks: chunk c holds those from starts[c] up to starts[c + 1]; the sizes differ by one at most. Errors: a number of
/// chunks outside [1, num_local_experts].
std::vector<int64_t> chunk_starts_of(int64_t num_local_experts, int64_t num_chunks);

/// Rows are sent by (chunk, rank, expert): place_E1[expert] = the expert's place in that order. The last element stays last: "nowhere".
at::Tensor places_by_chunk(const std::vector<int64_t>& chunk_starts, int64_t num_ranks);

/// weight_TK[token, choice] = weight_N, zero elsewhere; differentiable.
at::Tensor weights_by_token(const Routing& routing, int64_t num_tokens);

}  // namespace switchyard
