#include "core/host_copy.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor to_host(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  auto host = at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(true));
  host.copy_(tensor.detach());
  return host;
}

at::Tensor to_device(const at::Tensor& tensor, at::Device device) {
  if (device.is_cpu()) return tensor;
  return tensor.pin_memory().to(device, /*non_blocking=*/true);
}

std::vector<int64_t> whole_numbers(const at::Tensor& tensor) {
  const auto longs = tensor.to(at::kLong).contiguous();
  return {longs.const_data_ptr<int64_t>(), longs.const_data_ptr<int64_t>() + longs.numel()};
}

}  // namespace switchyard
