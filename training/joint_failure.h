// Work that succeeds on every rank or fails on every rank.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "parallel/communicator.h"

namespace switchyard {

/// Thrown on every rank, by all of them at the same point: collectives after it still match.
class JointFailure : public RunError {
 public:
  using RunError::RunError;
};

/// Runs `work` on this rank and waits for the others'. `work` calls no collective.
/// Collective. Errors: JointFailure with the message of the first rank that failed.
void succeed_or_fail_together(Communicator& world, const std::function<void()>& work);

/// gathered[r] is rank r's text; the texts may differ in length. Collective.
std::vector<std::string> gather_texts(Communicator& world, std::string_view text);

}  // namespace switchyard
