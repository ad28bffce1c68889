// The one catch: what a command throws becomes a message, an exit code, and the end of the job on every rank.
#pragma once

#include <functional>

#include "parallel/communicator.h"
#include "parallel/progress.h"

namespace switchyard {

/// Runs the command and returns its exit code. A UserError gives 2, every other exception 1, with a message on stderr: of the one rank that
/// failed, "[rank 3/8] step 7, layer 1, dispatch: ...", or of rank 0 for what all ranks found alike. A watchdog looks after the calls that
/// no deadline reaches: it ends the process with a message and exit code 1.
int run_to_exit_code(const std::function<int(const LaunchInfo&, Progress&)>& command);

}  // namespace switchyard
