// How a CPU kernel is written once and compiled for every machine, for those with 256-bit vectors, and for those with 512-bit ones.
//
// A kernel is a struct whose `row(int64_t)` computes one row and is SWITCHYARD_INLINED, as is everything it calls in its loops: only what
// is inlined into for_rows_with_avx2 is compiled for AVX2. FMA stays out on purpose (-ffp-contract=off, as AVX-512 brings it along):
// without it a product and its sum round alike in a vector, in the remainder of a loop and on any machine, so that a row's bits depend on
// its values and its width alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/Parallel.h>

#include "core/kernels/inlined.h"

namespace switchyard::kernels {

template <class Kernel>
void for_rows_anywhere(const Kernel& kernel, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) kernel.row(r);
}

#if defined(__x86_64__) && defined(__GNUC__)

template <class Kernel>
[[gnu::target("avx2")]] void for_rows_with_avx2(const Kernel& kernel, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) kernel.row(r);
}

template <class Kernel>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]] void for_rows_with_avx512(const Kernel& kernel, int64_t begin,
                                                                                                        int64_t end) {
  for (int64_t r = begin; r < end; ++r) kernel.row(r);
}

inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

/// With the widest vectors that this machine has.
template <class Kernel>
void for_rows(const Kernel& kernel, int64_t begin, int64_t end) {
  if (has_avx512()) return for_rows_with_avx512(kernel, begin, end);
  if (__builtin_cpu_supports("avx2")) return for_rows_with_avx2(kernel, begin, end);
  for_rows_anywhere(kernel, begin, end);
}

#else

template <class Kernel>
void for_rows(const Kernel& kernel, int64_t begin, int64_t end) {
  for_rows_anywhere(kernel, begin, end);
}

#endif

/// Rows a thread should take at least, so that starting it pays.
inline int64_t grain_of_rows(int64_t elements_per_row) {
  return std::max<int64_t>(1, at::internal::GRAIN_SIZE / std::max<int64_t>(1, elements_per_row));
}

/// kernel.row(r) for every r < num_rows, by the threads of ATen. No row may need what another one writes.
template <class Kernel>
void for_each_row(int64_t num_rows, int64_t elements_per_row, const Kernel& kernel) {
  at::parallel_for(0, num_rows, grain_of_rows(elements_per_row), [&](int64_t begin, int64_t end) { for_rows(kernel, begin, end); });
}

}  // namespace switchyard::kernels
