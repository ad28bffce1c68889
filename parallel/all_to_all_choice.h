// Which all-to-all carries the tokens of an expert group: parallel.all_to_all, and what the machines allow.
#pragma once

#include <string>

#include "parallel/communicator.h"

namespace switchyard {

/// `auto`: hierarchical where an expert group spans several machines with several of its ranks on each, and as many on each.
enum class AllToAllKind { kAuto, kFlat, kHierarchical };

struct AllToAllChoice {
  CommunicatorPtr group;    ///< expert_group, or its hierarchical view
  std::string description;  ///< for the log: "all-to-all: hierarchical, 2 machines with 2 ranks each", and why it is flat where it is
};

/// Collective over `world`, whose ranks each belong to one expert group; all groups have the same size.
/// Errors: UserError, the same on every rank, where kHierarchical is asked for and some group's machines hold unequal numbers of its ranks.
AllToAllChoice choose_all_to_all(Communicator& world, CommunicatorPtr expert_group, AllToAllKind kind);

}  // namespace switchyard
