// Which ranks of a group share a machine, and the order in which rows travel when they go inside the machines first. Pure index maths.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace switchyard {

/// M machines with L ranks of the group on each. (m, l) is the l-th rank of machine m.
struct MachineGrid {
  std::vector<std::vector<int64_t>> ranks_ML;  ///< ascending within a machine

  int64_t num_machines() const { return static_cast<int64_t>(ranks_ML.size()); }
  int64_t ranks_per_machine() const { return static_cast<int64_t>(ranks_ML.front().size()); }
};

/// The group's ranks by machine. node_of_rank: the number of each rank's machine, any numbers in any order.
std::vector<std::vector<int64_t>> ranks_by_machine(const std::vector<int64_t>& node_of_rank);

/// Nothing where the machines hold unequal numbers of ranks.
std::optional<MachineGrid> arrange_in_grid(const std::vector<int64_t>& node_of_rank);

/// One rank's part in an exchange of two stages. A block is what one rank sends to one other. Stage 1: rank (m, l) gives its neighbour
/// (m, l') all blocks for the ranks (any, l'). Stage 2: (m, l') gives (m', l') what it and its neighbours have for it.
/// Every list says which block of those at hand stands where: ordered[i] = blocks[list[i]].
struct TwoStageRoute {
  int64_t machine = 0;          ///< m
  int64_t local_rank = 0;       ///< l
  std::vector<int64_t> inside;  ///< of the blocks by destination: those for a neighbour together, by machine
  std::vector<int64_t> across;  ///< of the blocks by (neighbour, machine) that stage 1 brings: those for a machine together, by neighbour
  std::vector<int64_t> by_source;        ///< of the blocks by (peer, its neighbour) that stage 2 brings: by rank of the group
  std::vector<int64_t> machine_of_peer;  ///< the ranks (any, l) in the order of ranks, by machine
};
TwoStageRoute route_of_rank(const MachineGrid& grid, int64_t rank);

}  // namespace switchyard
