// The CUDA kernels against the CPU's: the same bits. And experts in one call: by LibTorch's grouped kernel where the GPU has it, by cuBLAS.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/activation.h"
#include "core/dtypes.h"
#include "core/row_ops.h"
#include "tests/core/expert_cases.h"
#include "tests/gpu/gpu.h"
#include "tests/tensors.h"

namespace switchyard {
namespace {

const std::vector<at::ScalarType> kDtypes = {at::kDouble, at::kFloat, at::kBFloat16};

/// With a gradient of its own.
at::Tensor leaf_on(at::Device device, const at::Tensor& values) {
  return values.to(device).detach().requires_grad_();
}

TEST(GpuKernels, MoveAndAddRowsWithTheBitsOfTheCpu) {
  const auto slot_TK = longs({0, 5, -1, 2, 4, 1, -1, -1}).view({4, 2});
  for (const auto dtype : kDtypes) {
    for (const int64_t width : {1, 33, 512}) {
      const auto rows_RD = normal({6, width}, 11, dtype), grad_TD = normal({4, width}, 13, dtype);
      const auto weight_TK = normal({4, 2}, 12, wide_dtype(dtype));
      const auto combine = [&](at::Device device) {
        auto rows = leaf_on(device, rows_RD), weight = leaf_on(device, weight_TK);
        const auto y = combine_rows(rows, slot_TK.to(device), weight);
        y.backward(grad_TD.to(device));
        return std::array{y.detach().cpu(), rows.grad().cpu(), weight.grad().cpu()};
      };
      const auto on_cpu = combine(at::kCPU), on_gpu = combine(kGpu);
      for (size_t i = 0; i < on_cpu.size(); ++i) expect_equal(on_gpu[i], on_cpu[i]);
      expect_equal(gather_rows(rows_RD.to(kGpu), slot_TK.flatten().to(kGpu)).cpu(), gather_rows(rows_RD, slot_TK.flatten()));
    }
  }
}

/// fp64 calls the GPU's own exponential.
TEST(GpuKernels, ActivateWithTheBitsOfTheCpu) {
  for (const auto kind : {Activation::kSwiglu, Activation::kClampedSwiglu}) {
    for (const auto dtype : kDtypes) {
      const auto up_RW = 4 * normal({37, 66}, 1, dtype), grad_RF = normal({37, 33}, 2, dtype);
      const auto run = [&](at::Device device) {
        auto up = leaf_on(device, up_RW);
        const auto activation = activate(up, kind);
        activation.backward(grad_RF.to(device));
        return std::array{activation.detach().cpu(), up.grad().cpu()};
      };
      const auto on_cpu = run(at::kCPU), on_gpu = run(kGpu);
      for (size_t i = 0; i < on_cpu.size(); ++i) {
        if (dtype == at::kDouble) {
          EXPECT_TRUE(at::allclose(on_gpu[i], on_cpu[i], 1e-14, 1e-14));
        } else {
          expect_equal(on_gpu[i], on_cpu[i]);
        }
      }
    }
  }
}

TEST(GpuKernels, ComputeAllExpertsAtOnceAsTheCpuDoes) {
  for (const auto kind : {Activation::kSwiglu, Activation::kGelu}) {
    for (const auto dtype : kDtypes) {
      for (const bool with_sums : {false, true}) expect_groups_as_blocks(kind, with_sums, dtype, kGpu);
    }
  }
}

}  // namespace
}  // namespace switchyard
