#include "training/job_world.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "parallel/device_communicator.h"
#include "parallel/nccl_communicator.h"
#include "parallel/progress.h"

namespace switchyard {
namespace {

/// Where `training.device` is auto, machines may differ.
void check_devices_agree(Communicator& world, at::Device device) {
  const auto is_cuda = world.all_gather(at::full({1}, device.is_cuda() ? 1 : 0, at::kLong));
  if ((is_cuda == is_cuda[0]).all().item<bool>()) return;
  throw AgreedError("training.device: some ranks have a GPU and others have none; use device: cpu, or other machines");
}

}  // namespace

CommunicatorPtr make_world(const Invocation& invocation, at::Device device, int64_t timeout_seconds) {
  if (invocation.launch.world_size == 1) return make_single_communicator();
  enter(invocation.progress, Phase::kInit);
  auto host = make_mpi_communicator(timeout_seconds, invocation.progress);
  check_devices_agree(*host, device);
  if (device.is_cpu()) return host;
  auto between_devices = make_nccl_communicator(host, device, timeout_seconds, invocation.progress);
  return make_device_communicator(std::move(host), std::move(between_devices));
}

}  // namespace switchyard
