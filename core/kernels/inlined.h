// Marks what a kernel calls in its loops. On a CPU only what is inlined is compiled for the kernel's vectors (core/kernels/vectorised.h);
// for a GPU it must be compiled at all.
#pragma once

#ifdef __CUDACC__
#define SWITCHYARD_INLINED __host__ __device__ __forceinline__
#else
#define SWITCHYARD_INLINED [[gnu::always_inline]] inline
#endif
