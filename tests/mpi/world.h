// The world's communicator of this test process: MPI can be started only once.
#pragma once

#include "parallel/communicator.h"

namespace switchyard {

CommunicatorPtr test_world();

}  // namespace switchyard
