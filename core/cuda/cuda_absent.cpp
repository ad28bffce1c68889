// The twin of the CUDA kernels in a build for the CPU, whose LibTorch makes no tensor on a GPU.
#include <c10/util/Exception.h>

#include "core/cuda/gated_kernels.h"
#include "core/cuda/grouped_products.h"
#include "core/cuda/row_kernels.h"

namespace switchyard::cuda {
namespace {

[[noreturn]] void fail() {
  TORCH_CHECK(false, "this build has no CUDA kernels: build the preset cuda (scripts/build.sh cuda)");
}

}  // namespace

void gated_activation_out(const at::Tensor&, const at::Tensor&, Activation) {
  fail();
}
void gated_activation_backward_out(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, Activation) {
  fail();
}
void gather_rows_out(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  fail();
}
void sum_rows_out(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  fail();
}
void dot_rows_out(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  fail();
}
bool has_grouped_kernel(const at::Tensor&) {
  fail();
}
void multiply_all(const std::vector<MatrixProduct>&, bool) {
  fail();
}

}  // namespace switchyard::cuda
