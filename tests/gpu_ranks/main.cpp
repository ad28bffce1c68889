// Ranks that are processes and share a GPU. NCCL refuses that, so what they exchange goes over the hosts: everything but NCCL itself is
// as it is with one GPU a rank.
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
  switchyard::world = switchyard::make_mpi_communicator(switchyard::kTimeoutSeconds);
  const int exit_code = switchyard::run_ranked_tests(*switchyard::world, argc, argv);
  switchyard::world.reset();
  return exit_code;
}
