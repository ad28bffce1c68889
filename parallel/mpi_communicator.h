// The MPI communicator with what only its tests choose.
#pragma once

#include "parallel/communicator.h"

namespace switchyard {

/// make_mpi_communicator(timeout_seconds, progress) whose messages hold at most max_message_bytes bytes, from 1 to 2^31 - 1; what is longer
/// goes in several. Every rank must give the same number.
CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds, int64_t max_message_bytes, Progress* progress = nullptr);

}  // namespace switchyard
