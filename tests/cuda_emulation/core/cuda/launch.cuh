// Stands in for core/cuda/launch.cuh where tests compile the CUDA kernels for the CPU: places one after the other, the lanes of a warp as
// threads that meet at every shuffle.
#pragma once

#include <algorithm>
#include <array>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#include <ATen/core/Tensor.h>

#define __device__

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

namespace switchyard::cuda {

inline constexpr int kWarp = 32;

struct Warp {
  std::barrier<> meeting{kWarp};
  std::array<double, kWarp> values = {};
};

inline thread_local Warp* warp_here = nullptr;
inline thread_local int lane_here = 0;

template <class T>
T __shfl_down_sync(unsigned /*mask*/, T value, int distance) {
  auto& [meeting, values] = *warp_here;
  values[lane_here] = value;
  meeting.arrive_and_wait();
  const auto other = static_cast<T>(values[std::min(lane_here + distance, kWarp - 1)]);
  meeting.arrive_and_wait();
  return lane_here + distance < kWarp ? other : value;
}

template <class Body>
void for_each_place(at::Device /*device*/, int64_t num_rows, int64_t num_columns, const Body& body) {
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t column = 0; column < num_columns; ++column) body(row, column);
  }
}

template <class Body>
void for_each_warp(at::Device /*device*/, int64_t count, const Body& body) {
  Warp warp;
  std::vector<std::jthread> lanes;
  for (int lane = 0; lane < kWarp; ++lane) {
    lanes.emplace_back([&, lane] {
      warp_here = &warp;
      lane_here = lane;
      for (int64_t i = 0; i < count; ++i) body(i, lane);
    });
  }
}

}  // namespace switchyard::cuda
