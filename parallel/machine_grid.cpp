#include "parallel/machine_grid.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <c10/util/Exception.h>

namespace switchyard {
namespace {

/// The machines in the order of their ranks with this local rank.
std::vector<int64_t> machines_by_rank(const MachineGrid& grid, int64_t local_rank) {
  std::vector<int64_t> machines(grid.num_machines());
  std::iota(machines.begin(), machines.end(), 0);
  std::sort(machines.begin(), machines.end(),
            [&](int64_t a, int64_t b) { return grid.ranks_ML[a][local_rank] < grid.ranks_ML[b][local_rank]; });
  return machines;
}

void find_place(const MachineGrid& grid, int64_t rank, TwoStageRoute& route) {
  for (int64_t machine = 0; machine < grid.num_machines(); ++machine) {
    for (int64_t local_rank = 0; local_rank < grid.ranks_per_machine(); ++local_rank) {
      if (grid.ranks_ML[machine][local_rank] != rank) continue;
      route.machine = machine;
      route.local_rank = local_rank;
      return;
    }
  }
  TORCH_CHECK(false, "route_of_rank: there is no rank ", rank, " in the grid");
}

}  // namespace

std::vector<std::vector<int64_t>> ranks_by_machine(const std::vector<int64_t>& node_of_rank) {
  std::map<int64_t, std::vector<int64_t>> machines;
  for (size_t rank = 0; rank < node_of_rank.size(); ++rank) machines[node_of_rank[rank]].push_back(static_cast<int64_t>(rank));
  std::vector<std::vector<int64_t>> ranks;
  for (auto& [node, machine] : machines) ranks.push_back(std::move(machine));
  return ranks;
}

std::optional<MachineGrid> arrange_in_grid(const std::vector<int64_t>& node_of_rank) {
  MachineGrid grid{ranks_by_machine(node_of_rank)};
  for (const auto& machine : grid.ranks_ML) {
    if (machine.size() != grid.ranks_ML.front().size()) return std::nullopt;
  }
  return grid;
}

TwoStageRoute route_of_rank(const MachineGrid& grid, int64_t rank) {
  const int64_t M = grid.num_machines(), L = grid.ranks_per_machine();
  TwoStageRoute route;
  find_place(grid, rank, route);
  route.machine_of_peer = machines_by_rank(grid, route.local_rank);
  for (int64_t local_rank = 0; local_rank < L; ++local_rank) {
    for (int64_t machine = 0; machine < M; ++machine) route.inside.push_back(grid.ranks_ML[machine][local_rank]);
  }
  route.by_source.resize(M * L);
  for (int64_t peer = 0; peer < M; ++peer) {
    const int64_t machine = route.machine_of_peer[peer];
    for (int64_t local_rank = 0; local_rank < L; ++local_rank) {
      route.across.push_back(local_rank * M + machine);
      route.by_source[grid.ranks_ML[machine][local_rank]] = peer * L + local_rank;
    }
  }
  return route;
}

}  // namespace switchyard
