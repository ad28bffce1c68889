// Which rank does what. One range of ranks, seen through named axes; nothing else computes ranks.
#pragma once

#include <string>

#include "parallel/communicator.h"

namespace switchyard {

/// Which ranks form an `expert` group. kExpertInner: consecutive ones, so that they share a machine first, rank = expert_data index *
/// expert degree + expert index. kExpertOuter: the replicas of an expert are consecutive, rank = expert index * expert_data size +
/// expert_data index.
enum class RankOrder { kExpertInner, kExpertOuter };

/// Dense weights live on every rank of `data` (the whole world); an expert lives on the ranks of one `expert_data` group.
class ProcessMesh {
 public:
  /// Collective. Errors: UserError when the world's size is not divisible by `expert_degree`; the valid degrees are named.
  ProcessMesh(CommunicatorPtr world, int64_t expert_degree, RankOrder order = RankOrder::kExpertInner);

  const CommunicatorPtr& world() const { return world_; }
  /// `data`, `expert` or `expert_data`. Errors: c10::Error for another name.
  const CommunicatorPtr& group(const std::string& axis) const;
  /// One line a group, for the log: "expert groups (2): [0 1] [2 3]".
  std::string describe() const;

 private:
  CommunicatorPtr world_;
  RankOrder order_;
  CommunicatorPtr expert_;
  CommunicatorPtr expert_data_;
};

}  // namespace switchyard
