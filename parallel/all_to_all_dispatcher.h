// Experts over the ranks of a group: rank r of n holds experts [r E/n, (r+1) E/n).
#pragma once

#include <memory>

#include "core/dispatcher.h"
#include "parallel/communicator.h"

namespace switchyard {

/// Exchanges of a dispatch: the counts of all chunks (the only host synchronisation of a layer), then each chunk's rows. num_chunks: at
/// most the experts of a rank. A group of one is served by make_local_dispatcher. Nothing is exchanged here; what the dispatcher does is
/// collective (TokenDispatcher). Errors: c10::Error when num_experts is not divisible by the group's size.
std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(int64_t num_experts, CommunicatorPtr expert_group, int64_t num_chunks = 1);

}  // namespace switchyard
