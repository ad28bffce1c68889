// The tests over MPI processes. --max-message-bytes=N: with messages of N bytes at most, so that all exchanges go in several.
#include <ATen/Parallel.h>

#include "parallel/mpi_communicator.h"
#include "tests/mpi/world.h"
#include "tests/ranked_tests.h"

namespace switchyard {
namespace {

constexpr int64_t kTimeoutSeconds = 60;

CommunicatorPtr world;

}  // namespace

CommunicatorPtr test_world() {
  return world;
}

}  // namespace switchyard

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  const auto max_message_bytes = switchyard::read_number(argc, argv, "--max-message-bytes=");
  switchyard::world = max_message_bytes ? switchyard::make_mpi_communicator(switchyard::kTimeoutSeconds, *max_message_bytes)
                                        : switchyard::make_mpi_communicator(switchyard::kTimeoutSeconds);
  const int exit_code = switchyard::run_ranked_tests(*switchyard::world, argc, argv);
  switchyard::world.reset();
  return exit_code;
}
