// An all-to-all in two stages: inside the machine first, then between machines. Each rank then talks to one rank of every other machine
// instead of all of them: 1/L as many messages between machines, each L times as long, with L ranks a machine.
#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace switchyard {

/// A view of `flat`, the same group: all_to_all goes in two stages and brings the same rows in the same order; everything else is flat's
/// own. An exchange starts with its stage inside the machine, after a small one of row counts there, in CPU tensors whatever `send` is,
/// that is waited for at once; the stage between machines runs inside Work::wait. So every rank must wait for its exchanges in the same
/// order. Groups that are split off are flat. node_of_rank: the number of each rank's machine, the same list on every rank (gather_nodes
/// gives it). Collective: splits the group. Errors: UserError where machines hold unequal numbers of the group's ranks.
CommunicatorPtr make_hierarchical_communicator(CommunicatorPtr flat, const std::vector<int64_t>& node_of_rank);

/// Communicator::node() of every rank. Collective.
std::vector<int64_t> gather_nodes(Communicator& group);

/// Errors: UserError where machines hold unequal numbers of the group's ranks.
void check_machines_alike(const std::vector<int64_t>& node_of_rank);

/// "the machines hold 1, 3 of its ranks", for messages.
std::string list_ranks_per_machine(const std::vector<int64_t>& node_of_rank);

}  // namespace switchyard
