// Experts in one call, as a GPU computes them, against blocks of rows; and how BLAS is told of a product.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/matrix_product.h"
#include "tests/core/expert_cases.h"
#include "tests/tensors.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

/// Column-major element (row, column) of what BLAS is told of.
double element(const at::Tensor& matrix, const BlasOperand& operand, int64_t row, int64_t column) {
  if (operand.is_transposed) std::swap(row, column);
  return matrix.const_data_ptr<double>()[row + column * operand.leading];
}

/// As BLAS does it.
void multiply_by_columns(const MatrixProduct& product) {
  const auto blas = blas_product(product);
  for (int64_t row = 0; row < blas.m; ++row) {
    for (int64_t column = 0; column < blas.n; ++column) {
      double sum = 0;
      for (int64_t k = 0; k < blas.k; ++k) {
        sum += element(product.b_KN, blas.left, row, k) * element(product.a_MK, blas.right, k, column);
      }
      product.c_MN.data_ptr<double>()[row + column * blas.result_leading] = sum;
    }
  }
}

/// Contiguous, the transpose of a contiguous one, and a part of the columns of a wider one.
std::vector<at::Tensor> in_every_layout(const at::Tensor& matrix) {
  const int64_t columns = matrix.size(1);
  return {matrix, matrix.t().contiguous().t(), at::cat({matrix, matrix}, 1).narrow(1, 0, columns)};
}

TEST(MatrixProduct, IsWhatBlasIsTold) {
  for (const auto& [M, K, N] : std::vector<std::array<int64_t, 3>>{{3, 5, 4}, {1, 5, 4}, {3, 1, 4}, {3, 5, 1}, {1, 1, 1}}) {
    const auto a_MK = normal({M, K}, 1), b_KN = normal({K, N}, 2);
    for (const auto& a : in_every_layout(a_MK)) {
      for (const auto& b : in_every_layout(b_KN)) {
        for (const auto& c : {at::zeros({M, N}, at::kDouble), at::zeros({M, N + 2}, at::kDouble).narrow(1, 1, N)}) {
          multiply_by_columns({a, b, c});
          EXPECT_TRUE(at::allclose(c, a_MK.mm(b_KN), 1e-12, 1e-14)) << M << " " << K << " " << N;
        }
      }
    }
  }
  const auto square = normal({4, 4}, 3);
  EXPECT_THROW(blas_product({square, square, at::zeros({4, 4}, at::kDouble).t()}), c10::Error);
  EXPECT_THROW(blas_product({square.narrow(1, 0, 3), square, square.clone()}), c10::Error);
  EXPECT_THROW(blas_product({at::zeros({4, 4, 2}, at::kDouble).select(2, 0), square, square.clone()}), c10::Error);
}

class ExpertsByGroups : public ::testing::TestWithParam<Activation> {};

TEST_P(ExpertsByGroups, AreThoseByBlocks) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const bool with_sums : {false, true}) expect_groups_as_blocks(GetParam(), with_sums, dtype, at::kCPU);
  }
}

TEST_P(ExpertsByGroups, WithoutRowsHaveZeroGradients) {
  auto experts = ExpertCase(GetParam(), /*with_sums=*/false, at::kFloat, at::kCPU).experts;
  experts.row_counts_e = {0, 0, 0, 0};
  experts.x_RD = experts.x_RD.narrow(0, 0, 0);
  experts.dropout_RF = experts.dropout_RF.narrow(0, 0, 0);
  const auto outputs = outputs_by_groups(experts);
  const auto gradients = gradients_by_groups(experts, outputs.up_RW, at::zeros_like(outputs.y_RD));
  EXPECT_EQ(outputs.y_RD.numel() + gradients.x_RD.numel(), 0);
  expect_equal(gradients.up_eWD, at::zeros_like(experts.weights.up_eWD));
  expect_equal(gradients.down_eDF, at::zeros_like(experts.weights.down_eDF));
}

INSTANTIATE_TEST_SUITE_P(Kinds, ExpertsByGroups,
                         ::testing::Values(Activation::kSwiglu, Activation::kGeglu, Activation::kClampedSwiglu, Activation::kGelu,
                                           Activation::kRelu),
                         [](const auto& info) { return "Kind" + std::to_string(static_cast<int>(info.param)); });

}  // namespace
}  // namespace switchyard
