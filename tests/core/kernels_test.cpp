// The fused kernels of the CPU against the plain operators, and what every one of them promises: a row's bits are its own.
#include "core/kernels/arithmetic.h"

#include <gtest/gtest.h>

#include "core/activation.h"
#include "core/row_ops.h"
#include "tests/kernel_checks.h"

namespace switchyard {
namespace {

TEST(Kernels, TheExponentialOfAFloatIsExactToTwoUnits) {
  double worst = 0.0;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 4093) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const float actual = kernels::exponential(x);
    const double exact = std::exp(static_cast<double>(x));
    const auto nearest = static_cast<float>(exact);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(actual));
    } else if (std::isinf(nearest) || nearest == 0.0f) {
      EXPECT_EQ(actual, nearest) << "of " << x;
    } else {
      const double unit = std::max(std::ldexp(1.0, std::ilogb(nearest) - 23), 0x1p-149);
      worst = std::max(worst, std::abs(static_cast<double>(actual) - exact) / unit);
    }
  }
  EXPECT_LT(worst, 2.0);
  EXPECT_EQ(kernels::exponential(0.0f), 1.0f);
  EXPECT_EQ(kernels::exponential(std::numeric_limits<float>::infinity()), std::numeric_limits<float>::infinity());
  EXPECT_EQ(kernels::exponential(-std::numeric_limits<float>::infinity()), 0.0f);
}

TEST(Kernels, Bfloat16IsRoundedAsEverywhere) {
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 4093) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const auto actual = kernels::narrowed<c10::BFloat16>(x), expected = c10::BFloat16(x);
    EXPECT_TRUE(std::isnan(x) ? std::isnan(static_cast<float>(actual)) : actual.x == expected.x) << x;
    EXPECT_TRUE(std::isnan(x) || kernels::widened(actual) == static_cast<float>(expected)) << x;
  }
}

at::Tensor gated_by_operators(const at::Tensor& up, Activation kind) {
  const auto parts = up.chunk(2, -1);
  if (kind == Activation::kSwiglu) return at::silu(parts[0]) * parts[1];
  // Not clamp's own gradient: at the bound itself it is 0, ours is not.
  const auto gate = at::where(parts[0] <= 7.0, parts[0], parts[0].detach().clamp_max(7.0));
  const auto value = at::where(parts[1].abs() <= 7.0, parts[1], parts[1].detach().clamp(-7.0, 7.0));
  return gate * (1.702 * gate).sigmoid() * (value + 1.0);
}

/// The activation, the gradient by [gate | up], and the activation again.
std::vector<at::Tensor> gated(const at::Tensor& up, const at::Tensor& grad, Activation kind) {
  auto activation = at::empty_like(grad), again = at::empty_like(grad), grad_up = at::empty_like(up), same_grad_up = at::empty_like(up);
  activation_out(activation, up, kind);
  activation_backward_out(grad_up, grad, up, kind);
  activation_and_backward_out(again, same_grad_up, grad, up, kind);
  EXPECT_TRUE(same_bits(again, activation));
  EXPECT_TRUE(same_bits(same_grad_up, grad_up));
  return {activation, grad_up};
}

class GatedKernel : public ::testing::TestWithParam<Activation> {};

TEST_P(GatedKernel, IsItsOperatorsForEveryWidthAndDtype) {
  for (const auto dtype : kKernelDtypes) {
    for (const int64_t F : kKernelWidths) {
      const auto up = (5.0 * normal({5, 2 * F}, 1)).to(dtype), grad = normal({5, F}, 2).to(dtype);
      auto exact_up = up.to(at::kDouble).requires_grad_();
      const auto exact = gated_by_operators(exact_up, GetParam());
      exact.backward(grad.to(at::kDouble));
      const auto actual = gated(scattered(up), scattered(grad), GetParam());
      const double roundings = dtype == at::kBFloat16 ? 1.01 : 30.0;
      expect_near(actual[0], exact.detach(), tolerance(dtype, roundings));
      expect_near(actual[1], exact_up.grad(), tolerance(dtype, roundings), tolerance(dtype == at::kDouble ? dtype : at::kFloat, 30.0));
    }
  }
}

TEST_P(GatedKernel, TreatsExtremesAsItsOperatorsDo) {
  const auto values = at::tensor({1e4, -1e4, 88.0, -88.0, 7.0, -7.0, 0.0, kInfinity, -kInfinity, kNaN}, at::kDouble);
  const int64_t n = values.size(0);
  for (const auto dtype : kKernelDtypes) {
    const auto up = at::stack({values.repeat_interleave(n), values.repeat({n})}, 1).to(dtype);
    auto plain_up = up.detach().to(at::kDouble).requires_grad_();
    const auto plain = gated_by_operators(plain_up, GetParam());
    plain.backward(at::ones_like(plain));
    // A clamp of the operators would hide it from the gradient.
    const auto gate = plain_up.detach().select(1, 0), value = plain_up.detach().select(1, 1);
    const auto is_lost = gate.isnan().logical_or(gate == -kInfinity);
    const auto plain_grad = plain_up.grad().masked_fill(at::stack({is_lost.logical_or(value.isnan()), is_lost}, 1), kNaN);
    const auto actual = gated(up, at::ones({n * n, 1}, up.options()), GetParam());
    // Below 1e-30 fp32 has nothing, or no digits, where fp64 has both.
    EXPECT_TRUE(at::allclose(actual[0].to(at::kDouble), plain.detach(), tolerance(dtype, 30.0), 1e-30, true)) << actual[0];
    EXPECT_TRUE(at::allclose(actual[1].to(at::kDouble), plain_grad, tolerance(dtype, 30.0), 1e-30, true)) << actual[1];
  }
}

TEST_P(GatedKernel, GivesEveryRowItsOwnBits) {
  for (const auto dtype : kKernelDtypes) {
    for (const int64_t F : {int64_t(7), int64_t(1027)}) {
      const auto both = normal({67, 3 * F}, 3).to(dtype);
      for (const size_t result : {size_t(0), size_t(1)}) {
        expect_rows_of_their_own(
            both, [&](const at::Tensor& x) { return gated(x.narrow(1, 0, 2 * F), x.narrow(1, 2 * F, F), GetParam())[result]; });
      }
    }
  }
}

TEST_P(GatedKernel, WritesWhereStridesAreOddAndTakesNoRows) {
  const auto up = normal({4, 6}, 4), grad = normal({4, 3}, 5);
  auto columns = at::empty({3, 4}, at::kDouble).t(), grad_columns = at::empty({6, 4}, at::kDouble).t();
  activation_out(columns, up.t().contiguous().t(), GetParam());
  activation_backward_out(grad_columns, grad, up, GetParam());
  const auto expected = gated(up, grad, GetParam());
  expect_equal(columns, expected[0]);
  expect_equal(grad_columns, expected[1]);
  EXPECT_EQ(activate(at::empty({0, 6}), GetParam()).sizes(), (at::IntArrayRef{0, 3}));
  EXPECT_THROW(activation_out(at::empty({4, 4}, at::kDouble), up, GetParam()), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(Kinds, GatedKernel, ::testing::Values(Activation::kSwiglu, Activation::kClampedSwiglu),
                         [](const auto& info) { return info.param == Activation::kSwiglu ? "Swiglu" : "ClampedSwiglu"; });

TEST(Kernels, SumsAndProductsOfRowsAreThoseOfOperators) {
  for (const auto dtype : kKernelDtypes) {
    for (const int64_t D : {int64_t(1), int64_t(17), int64_t(100), int64_t(1027)}) {
      const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
      auto rows_RD = normal({6, D}, 1).to(dtype).requires_grad_(), weight_TK = normal({3, 2}, 2).to(wide).requires_grad_();
      auto exact_RD = rows_RD.detach().to(at::kDouble).requires_grad_(), exact_TK = weight_TK.detach().to(at::kDouble).requires_grad_();
      const auto slot_TK = longs({4, 1, 5, 0, 2, 3}).view({3, 2}), grad_TD = normal({3, D}, 3).to(dtype);
      const auto y = combine_rows(rows_RD, slot_TK, weight_TK);
      const auto exact = (exact_RD.index_select(0, slot_TK.flatten()).view({3, 2, D}) * exact_TK.unsqueeze(2)).sum(1);
      y.backward(grad_TD);
      exact.backward(grad_TD.to(at::kDouble));
      expect_near(y.detach(), exact.detach(), tolerance(dtype, 1.01), tolerance(wide, 8.0));
      expect_near(rows_RD.grad(), exact_RD.grad(), tolerance(dtype, 1.01), tolerance(wide, 8.0));
      expect_near(weight_TK.grad(), exact_TK.grad(), tolerance(wide, 100.0), tolerance(wide, 100.0));
    }
  }
}

}  // namespace
}  // namespace switchyard
