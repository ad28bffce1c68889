// The CUDA kernels compiled for the CPU, in the place of those of the library.
#include "core/cuda/gated_kernels.cu"
#include "core/cuda/row_kernels.cu"
