// How kernels are started: on the current stream of the tensors' GPU, which nobody waits for here.
#pragma once

#include <algorithm>
#include <cstdint>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace switchyard::cuda {

inline constexpr int kThreads = 256;
inline constexpr int kWarp = 32;

/// body(i) for every i < count.
template <class Body>
__global__ void __launch_bounds__(kThreads) for_elements(Body body, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) body(i);
}

/// body(i, lane) for every i < count, by all lanes of one warp.
template <class Body>
__global__ void __launch_bounds__(kThreads) for_warps(Body body, int64_t count) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, step = int64_t{gridDim.x} * kThreads / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t i = thread / kWarp; i < count; i += step) body(i, lane);
}

/// As many blocks as `threads` take, up to a number that fills any GPU; the loops inside do the rest.
inline unsigned blocks_of(int64_t threads) {
  constexpr int64_t kMostBlocks = int64_t{1} << 20;
  return static_cast<unsigned>(std::min(kMostBlocks, (threads + kThreads - 1) / kThreads));
}

template <class Body>
void for_each_element(at::Device device, int64_t count, const Body& body) {
  if (count == 0) return;
  const c10::cuda::CUDAGuard guard(device);
  for_elements<<<blocks_of(count), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(body, count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class Body>
void for_each_warp(at::Device device, int64_t count, const Body& body) {
  if (count == 0) return;
  const c10::cuda::CUDAGuard guard(device);
  for_warps<<<blocks_of(count * kWarp), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(body, count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace switchyard::cuda
