#include "parallel/process_mesh.h"

#include <c10/util/Exception.h>

#include "core/error.h"

namespace switchyard {
namespace {

std::string list_divisors(int64_t number) {
  std::string list;
  for (int64_t divisor = 1; divisor <= number; ++divisor) {
    if (number % divisor != 0) continue;
    if (!list.empty()) list += ", ";
    list += std::to_string(divisor);
  }
  return list;
}

/// " [first first+stride ...]", `count` ranks.
std::string list_ranks(int64_t first, int64_t stride, int64_t count) {
  std::string list;
  for (int64_t i = 0; i < count; ++i) {
    list += i == 0 ? " [" : " ";
    list += std::to_string(first + i * stride);
  }
  return list + "]";
}

CommunicatorPtr split_into_expert_groups(Communicator& world, int64_t expert_degree, RankOrder order) {
  if (expert_degree < 1 || world.size() % expert_degree != 0) {
    throw UserError("parallel.expert = " + std::to_string(expert_degree) + " does not divide the number of ranks, " +
                    std::to_string(world.size()) + "; use one of " + list_divisors(world.size()) + ", or another number of ranks");
  }
  const int64_t replicas = world.size() / expert_degree;
  return world.split(order == RankOrder::kExpertInner ? world.rank() / expert_degree : world.rank() % replicas);
}

CommunicatorPtr split_into_replicas(Communicator& world, int64_t expert_degree, RankOrder order) {
  const int64_t replicas = world.size() / expert_degree;
  return world.split(order == RankOrder::kExpertInner ? world.rank() % expert_degree : world.rank() / replicas);
}

}  // namespace

ProcessMesh::ProcessMesh(CommunicatorPtr world, int64_t expert_degree, RankOrder order)
    : world_(std::move(world)),
      order_(order),
      expert_(split_into_expert_groups(*world_, expert_degree, order)),
      expert_data_(split_into_replicas(*world_, expert_degree, order)) {}

const CommunicatorPtr& ProcessMesh::group(const std::string& axis) const {
  if (axis == "data") return world_;
  if (axis == "expert") return expert_;
  TORCH_CHECK(axis == "expert_data", "ProcessMesh: there is no axis ", axis, "; the axes are data, expert and expert_data");
  return expert_data_;
}

std::string ProcessMesh::describe() const {
  const int64_t num_ranks = world_->size(), expert = expert_->size(), replicas = expert_data_->size();
  const bool inner = order_ == RankOrder::kExpertInner;
  std::string text = "data groups (1):" + list_ranks(0, 1, num_ranks);
  text += "\nexpert groups (" + std::to_string(replicas) + "):";
  for (int64_t group = 0; group < replicas; ++group) text += list_ranks(inner ? group * expert : group, inner ? 1 : replicas, expert);
  text += "\nexpert_data groups (" + std::to_string(expert) + "):";
  for (int64_t group = 0; group < expert; ++group) text += list_ranks(inner ? group : group * replicas, inner ? expert : 1, replicas);
  return text;
}

}  // namespace switchyard
