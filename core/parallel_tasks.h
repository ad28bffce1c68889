// Independent pieces of work of unequal size, shared out among the threads of ATen.
#pragma once

#include <atomic>
#include <cstdint>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace switchyard {

/// body(task) for every task < num_tasks, each by one thread: whoever is free takes the next. Inside, operators of ATen compute with one
/// thread, and without autograd. For CPU tensors.
template <class Body>
void for_each_task(int64_t num_tasks, Body body) {
  if (at::get_num_threads() == 1 || num_tasks < 2) {
    for (int64_t task = 0; task < num_tasks; ++task) body(task);
    return;
  }
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min<int64_t>(num_tasks, at::get_num_threads()), /*grain_size=*/1, [&](int64_t /*begin*/, int64_t /*end*/) {
    const at::NoGradGuard no_grad;  // thread-local, and not inherited
    for (int64_t task = next++; task < num_tasks; task = next++) body(task);
  });
}

}  // namespace switchyard
