// The CUDA kernels, run by the CPU (tests/cuda_emulation): their bits are those of the CPU's own kernels. What only a GPU can show, the
// launch and the arithmetic of its instructions, is in tests/gpu.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/cuda/gated_kernels.h"
#include "core/cuda/row_kernels.h"
#include "core/dtypes.h"
#include "core/kernels/gated_kernels.h"
#include "core/row_ops.h"
#include "tests/tensors.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

const std::vector<at::ScalarType> kDtypes = {at::kDouble, at::kFloat, at::kBFloat16};

/// With and without rows of whole packs, shorter than a warp, and longer by more than one.
const std::vector<int64_t> kWidths = {1, 8, 31, 32, 64, 100, 129};

/// Rows that begin one element behind an aligned place.
at::Tensor misaligned(const at::Tensor& tensor) {
  return at::empty({tensor.numel() + 1}, tensor.options()).narrow(0, 1, tensor.numel()).view(tensor.sizes()).copy_(tensor);
}

at::Tensor slots() {
  return longs({0, 5, -1, 2, 4, 1, -1, -1}).view({4, 2});
}

TEST(CudaRowKernels, Gather) {
  for (const auto dtype : kDtypes) {
    for (const int64_t width : kWidths) {
      const auto source_TD = normal({6, width}, 1, dtype), index_R = slots().flatten();
      for (const auto& from : {source_TD, misaligned(source_TD)}) {
        const auto rows_RD = at::empty({8, width}, source_TD.options());
        cuda::gather_rows_out(rows_RD, from, index_R);
        expect_equal(rows_RD, gather_rows(source_TD, index_R));
      }
    }
  }
}

TEST(CudaRowKernels, Sum) {
  for (const auto dtype : kDtypes) {
    for (const int64_t width : kWidths) {
      const auto rows_RD = normal({6, width}, 2, dtype), weight_TK = normal({4, 2}, 3, wide_dtype(dtype));
      for (const auto& weight : {weight_TK, at::Tensor()}) {
        for (const auto& from : {rows_RD, misaligned(rows_RD)}) {
          const auto y_TD = at::empty({4, width}, rows_RD.options());
          cuda::sum_rows_out(y_TD, from, slots(), weight);
          expect_equal(y_TD, sum_rows(rows_RD, slots(), weight));
        }
      }
    }
  }
}

/// The gradient of combine_rows by its weights is the CPU's dot_rows.
TEST(CudaRowKernels, Dot) {
  for (const auto dtype : kDtypes) {
    for (const int64_t width : kWidths) {
      const auto rows_RD = normal({6, width}, 4, dtype), grad_TD = normal({4, width}, 5, dtype);
      const auto weight_TK = normal({4, 2}, 6, wide_dtype(dtype)).requires_grad_();
      combine_rows(rows_RD, slots(), weight_TK).backward(grad_TD);
      const auto dot_TK = at::empty({4, 2}, weight_TK.options().requires_grad(false));
      cuda::dot_rows_out(dot_TK, rows_RD, slots(), grad_TD);
      expect_equal(dot_TK, weight_TK.grad());
    }
  }
}

class CudaGatedKernel : public ::testing::TestWithParam<Activation> {};

TEST_P(CudaGatedKernel, GivesTheBitsOfTheCpus) {
  for (const auto dtype : kDtypes) {
    for (const int64_t width : kWidths) {
      // Rows of a wider matrix, as a part of a product's result is.
      const auto up_RW = (normal({5, 2 * width + 3}, 7, dtype) * 4).narrow(1, 0, 2 * width), grad_RF = normal({5, width}, 8, dtype);
      const auto empty_F = [&] { return at::empty({5, width}, up_RW.options()); };
      const auto empty_W = [&] { return at::empty({5, 2 * width}, up_RW.options()); };
      auto activation = empty_F(), expected = empty_F(), again = empty_F(), grad = empty_W(), expected_grad = empty_W(),
           grad_alone = empty_W();
      kernels::gated_activation_out(expected, up_RW, GetParam());
      kernels::gated_activation_backward_out(expected_grad, {}, grad_RF, up_RW, GetParam());
      cuda::gated_activation_out(activation, up_RW, GetParam());
      cuda::gated_activation_backward_out(grad, again, grad_RF, up_RW, GetParam());
      cuda::gated_activation_backward_out(grad_alone, {}, grad_RF, up_RW, GetParam());
      expect_equal(activation, expected);
      expect_equal(again, expected);
      expect_equal(grad, expected_grad);
      expect_equal(grad_alone, expected_grad);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, CudaGatedKernel, ::testing::Values(Activation::kSwiglu, Activation::kClampedSwiglu),
                         [](const auto& info) { return info.param == Activation::kSwiglu ? "swiglu" : "clamped_swiglu"; });

}  // namespace
}  // namespace switchyard
