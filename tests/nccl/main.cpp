// The tests over processes with one GPU each. Where there are fewer GPUs than ranks, they fail.
#include <ATen/Parallel.h>

#include "parallel/nccl_communicator.h"
#include "tests/nccl/worlds.h"
#include "tests/ranked_tests.h"

namespace switchyard {
namespace {

constexpr int64_t kTimeoutSeconds = 60;

CommunicatorPtr host, between_gpus;
at::Device device = at::kCPU;

int run(int argc, char** argv) {
  host = make_mpi_communicator(kTimeoutSeconds);
  device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(read_launch_info().local_rank));
  int exit_code = 1;
  try {
    between_gpus = make_nccl_communicator(host, device, kTimeoutSeconds);
    exit_code = run_ranked_tests(*host, argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[rank %ld] test_nccl needs one GPU a rank: %s\n", static_cast<long>(host->rank()), error.what());
    abort_job(1);
  }
  between_gpus.reset();
  host.reset();
  return exit_code;
}

}  // namespace

CommunicatorPtr host_world() {
  return host;
}
CommunicatorPtr gpu_world() {
  return between_gpus;
}
at::Device gpu() {
  return device;
}

}  // namespace switchyard

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  return switchyard::run(argc, argv);
}
