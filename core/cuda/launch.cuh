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

/// body(row, column) for every place of a matrix. Two dimensions, because a division of 64 bits an element would cost more than its memory.
template <class Body>
__global__ void __launch_bounds__(kThreads) for_places(Body body, int64_t num_rows, int64_t num_columns) {
  const int64_t row_step = int64_t{gridDim.y} * blockDim.y, column_step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t row = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < num_rows; row += row_step) {
    for (int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; column < num_columns; column += column_step) body(row, column);
  }
}

/// body(i, lane) for every i < count, by all lanes of one warp.
template <class Body>
__global__ void __launch_bounds__(kThreads) for_warps(Body body, int64_t count) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, step = int64_t{gridDim.x} * kThreads / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t i = thread / kWarp; i < count; i += step) body(i, lane);
}

/// As many blocks as `threads` take, up to `most`; the loops inside do the rest.
inline unsigned blocks_of(int64_t threads, int64_t threads_a_block, int64_t most) {
  return static_cast<unsigned>(std::min(most, (threads + threads_a_block - 1) / threads_a_block));
}

template <class Body>
void for_each_place(at::Device device, int64_t num_rows, int64_t num_columns, const Body& body) {
  if (num_rows == 0 || num_columns == 0) return;
  constexpr int64_t kMostAcross = int64_t{1} << 16, kMostDown = (int64_t{1} << 16) - 1;
  // A row's columns for whole warps; where one does not fill a block, several rows do.
  const int64_t across = std::min<int64_t>(kThreads, (num_columns + kWarp - 1) / kWarp * kWarp), down = kThreads / across;
  const dim3 blocks(blocks_of(num_columns, across, kMostAcross), blocks_of(num_rows, down, kMostDown));
  const c10::cuda::CUDAGuard guard(device);
  for_places<<<blocks, dim3(across, down), 0, c10::cuda::getCurrentCUDAStream()>>>(body, num_rows, num_columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class Body>
void for_each_warp(at::Device device, int64_t count, const Body& body) {
  if (count == 0) return;
  const c10::cuda::CUDAGuard guard(device);
  constexpr int64_t kMostBlocks = int64_t{1} << 20;
  for_warps<<<blocks_of(count * kWarp, kThreads, kMostBlocks), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(body, count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace switchyard::cuda
