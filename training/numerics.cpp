#include "training/numerics.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include <ATen/Parallel.h>

#include "core/error.h"

namespace switchyard {

Precision resolve_precision(Precision wanted, at::Device device) {
  if (wanted != Precision::kAuto) return wanted;
  const bool has_bf16 = device.is_cuda() || __builtin_cpu_supports("avx512bf16");
  return has_bf16 ? Precision::kBf16 : Precision::kFp32;
}

at::ScalarType run_dtype(Precision resolved) {
  switch (resolved) {
    case Precision::kFp32:
      return at::kFloat;
    case Precision::kBf16:
      return at::kBFloat16;
    case Precision::kFp64:
      return at::kDouble;
    case Precision::kAuto:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "precision `auto` must be resolved first");
}

std::string to_string(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return "auto";
    case Precision::kFp32:
      return "fp32";
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp64:
      return "fp64";
  }
  return {};
}

Precision precision_from_string(const std::string& name) {
  for (const auto precision : {Precision::kAuto, Precision::kFp32, Precision::kBf16, Precision::kFp64}) {
    if (to_string(precision) == name) return precision;
  }
  throw UserError("precision = " + name + " is not one of auto, fp32, bf16, fp64");
}

at::Device resolve_device(Device wanted, int64_t local_rank) {
  const bool has_cuda = at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
  if (wanted == Device::kCuda && !has_cuda) {
    throw UserError(
        "training.device = cuda, but " +
        std::string(at::globalContext().hasCUDART() ? "no CUDA device is there" : "this build is without CUDA (preset `cuda`)") +
        "; use training.device: cpu or auto");
  }
  if (wanted == Device::kCpu || !has_cuda) return at::kCPU;
  return {at::kCUDA, static_cast<at::DeviceIndex>(local_rank % at::detail::getCUDAHooks().deviceCount())};
}

int64_t set_threads(int64_t wanted, const LaunchInfo& launch) {
  if (wanted == 0) {
    cpu_set_t allowed;
    const int64_t usable = sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    const bool is_bound = usable < static_cast<int64_t>(std::thread::hardware_concurrency());
    wanted = is_bound ? usable : std::max<int64_t>(1, usable / launch.local_size);
  }
  at::set_num_threads(static_cast<int>(wanted));
  return wanted;
}

}  // namespace switchyard
