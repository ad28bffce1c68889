#include "parallel/all_to_all_choice.h"

#include <map>

#include <ATen/ATen.h>

#include "parallel/hierarchical_communicator.h"
#include "parallel/machine_grid.h"

namespace switchyard {
namespace {

using Nodes = std::vector<int64_t>;

/// The nodes of every rank's expert group: all ranks judge all groups, and so come to the same verdict.
std::vector<Nodes> gather_groups(Communicator& world, Communicator& group) {
  const auto nodes_WG = world.all_gather(at::tensor(gather_nodes(group), at::kLong));
  std::vector<Nodes> groups;
  for (int64_t rank = 0; rank < world.size(); ++rank) {
    const auto* nodes = nodes_WG[rank].const_data_ptr<int64_t>();
    groups.emplace_back(nodes, nodes + group.size());
  }
  return groups;
}

struct Verdict {
  bool is_hierarchical;
  std::string text;
};

Verdict judge(const Nodes& nodes, AllToAllKind kind) {
  const auto grid = arrange_in_grid(nodes);
  if (!grid) return {false, "flat (auto): " + list_ranks_per_machine(nodes) + ", hierarchical needs as many on each"};
  const auto shape =
      std::to_string(grid->num_machines()) + " machine(s) with " + std::to_string(grid->ranks_per_machine()) + " rank(s) each";
  if (kind == AllToAllKind::kHierarchical) return {true, "hierarchical (as configured): " + shape};
  if (grid->num_machines() > 1 && grid->ranks_per_machine() > 1) return {true, "hierarchical (auto): " + shape};
  return {false, "flat (auto): " + shape};
}

std::string describe(const std::vector<Nodes>& group_of_rank, AllToAllKind kind, int64_t group_size) {
  std::map<std::string, int64_t> num_groups;
  for (const auto& nodes : group_of_rank) ++num_groups[judge(nodes, kind).text];
  std::string text;
  for (const auto& [verdict, num_ranks] : num_groups) {
    text += text.empty() ? "all-to-all of " : "; of ";
    text += std::to_string(num_ranks / group_size) + " expert group(s) " + verdict;
  }
  return text;
}

}  // namespace

AllToAllChoice choose_all_to_all(Communicator& world, CommunicatorPtr expert_group, AllToAllKind kind) {
  if (kind == AllToAllKind::kFlat) return {std::move(expert_group), "all-to-all of the expert groups flat (as configured)"};
  const auto group_of_rank = gather_groups(world, *expert_group);
  if (kind == AllToAllKind::kHierarchical) {
    for (const auto& nodes : group_of_rank) check_machines_alike(nodes);
  }
  const auto& nodes = group_of_rank[world.rank()];
  auto description = describe(group_of_rank, kind, expert_group->size());
  if (!judge(nodes, kind).is_hierarchical) return {std::move(expert_group), std::move(description)};
  return {make_hierarchical_communicator(std::move(expert_group), nodes), std::move(description)};
}

}  // namespace switchyard
