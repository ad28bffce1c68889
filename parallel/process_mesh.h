// Which rank does what. One range of ranks, seen through named axes; nothing else computes ranks.
#pragma once

#include <string>

#include "parallel/communicator.h"

namespace switchyard {

/// Dense weights live on every rank of `data` (the whole world); an expert lives on the ranks of one `expert_data` group. Ranks of an
/// `expert` group are consecutive, so they share a node first: rank = expert_data index * expert degree + expert index.
class ProcessMesh {
 public:
  /// Collective. Errors: UserError when the world's size is not divisible by `expert_degree`; the valid degrees are named.
  ProcessMesh(CommunicatorPtr world, int64_t expert_degree);

  const CommunicatorPtr& world() const { return world_; }
  /// `data`, `expert` or `expert_data`.
  const CommunicatorPtr& group(const std::string& axis) const;
  /// One line a group, for the log: "expert groups (2): [0 1] [2 3]".
  std::string describe() const;

 private:
  CommunicatorPtr world_;
  CommunicatorPtr expert_;
  CommunicatorPtr expert_data_;
};

}  // namespace switchyard
