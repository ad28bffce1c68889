#include "core/row_ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/finite_differences.h"
#include "tests/tensors.h"

namespace switchyard {
namespace {

TEST(GatherRows, TakesRowsAndLeavesZerosWhereThereIsNone) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto source_TD = at::tensor({1., 2., 3., 4., 5., 6.}).view({3, 2}).to(dtype);
    expect_equal(gather_rows(source_TD, longs({2, -1, 0, 2})), at::tensor({5., 6., 0., 0., 1., 2., 5., 6.}).view({4, 2}).to(dtype));
  }
}

TEST(GatherRows, AcceptsNoRowsOnEitherSide) {
  expect_equal(gather_rows(at::ones({3, 2}), at::empty({0}, at::kLong)), at::empty({0, 2}));
  expect_equal(gather_rows(at::empty({0, 2}), longs({-1, -1})), at::zeros({2, 2}));
}

TEST(GatherRows, RefusesRowsThatDoNotExist) {
  EXPECT_THROW(gather_rows(at::ones({3, 2}), longs({3})), c10::Error);
  EXPECT_THROW(gather_rows(at::ones({3, 2}), longs({-2})), c10::Error);
  EXPECT_THROW(gather_rows(at::ones({3, 2}), at::zeros({1}, at::kInt)), c10::Error);
}

TEST(SumRows, WeighsTheNamedRowsAndSkipsTheOthers) {
  const auto rows_RD = at::tensor({1., 10., 2., 20., 4., 40.}, at::kDouble).view({3, 2});
  const auto slot_TK = longs({2, 0, -1, 1, -1, -1}).view({3, 2});
  const auto weight_TK = at::tensor({0.5, 3., 7., 0.25, 7., 7.}, at::kDouble).view({3, 2});
  // token 0: 0.5 row 2 + 3 row 0; token 1: 0.25 row 1; token 2: nothing
  expect_equal(sum_rows(rows_RD, slot_TK, weight_TK), at::tensor({5., 50., 0.5, 5., 0., 0.}, at::kDouble).view({3, 2}));
  expect_equal(sum_rows(rows_RD, slot_TK), at::tensor({5., 50., 2., 20., 0., 0.}, at::kDouble).view({3, 2}));
}

TEST(SumRows, ARowThatNobodyNamesMayHoldAnything) {
  const auto rows_RD = at::tensor({std::nan(""), 3.}, at::kDouble).view({2, 1});
  expect_equal(sum_rows(rows_RD, longs({1, -1}).view({1, 2})), at::tensor({3.}, at::kDouble).view({1, 1}));
}

TEST(SumRows, AddsInTheOrderOfChoice) {
  // In fp32 (1e8 + 1) - 1e8 = 0, but (1e8 - 1e8) + 1 = 1.
  const auto rows_RD = at::tensor({1e8, 1., -1e8}, at::kFloat).view({3, 1});
  const auto y_TD = sum_rows(rows_RD, longs({0, 1, 2, 0, 2, 1}).view({2, 3}));
  expect_equal(y_TD, at::tensor({0., 1.}, at::kFloat).view({2, 1}));
}

TEST(SumRows, SumsBfloat16InFp32AndRoundsOnce) {
  // 256 + 1 + 1 = 258 in fp32; step by step in bf16 it stays at 256.
  const auto rows_RD = at::tensor({256., 1., 1.}).view({3, 1}).to(at::kBFloat16);
  expect_equal(sum_rows(rows_RD, longs({0, 1, 2}).view({1, 3})), at::full({1, 1}, 258.).to(at::kBFloat16));
}

TEST(SumRows, RefusesWeightsOfTheRowsOwnBfloat16) {
  const auto rows_RD = at::ones({1, 2}, at::kBFloat16);
  EXPECT_THROW(sum_rows(rows_RD, longs({0}).view({1, 1}), at::ones({1, 1}, at::kBFloat16)), c10::Error);
}

TEST(CombineRows, GradientsMatchFiniteDifferences) {
  at::manual_seed(1);
  const auto rows_RD = at::randn({5, 3}, at::kDouble), weight_TK = at::randn({3, 2}, at::kDouble), g_TD = at::randn({3, 3}, at::kDouble);
  const auto slot_TK = longs({4, 1, -1, 0, -1, -1}).view({3, 2});  // rows 2 and 3 belong to nobody
  expect_gradient_matches_differences([&](const at::Tensor& rows) { return (combine_rows(rows, slot_TK, weight_TK) * g_TD).sum(); },
                                      rows_RD);
  expect_gradient_matches_differences([&](const at::Tensor& weight) { return (combine_rows(rows_RD, slot_TK, weight) * g_TD).sum(); },
                                      weight_TK);
}

TEST(CombineRows, ARowThatNobodyNamesGetsAZeroGradient) {
  auto rows_RD = at::full({2, 2}, std::nan(""), at::kDouble);
  rows_RD[1] = 1.0;
  rows_RD.requires_grad_(true);
  auto weight_TK = at::ones({1, 2}, at::kDouble).requires_grad_(true);
  combine_rows(rows_RD, longs({1, -1}).view({1, 2}), weight_TK).sum().backward();
  expect_equal(rows_RD.grad(), at::tensor({0., 0., 1., 1.}, at::kDouble).view({2, 2}));
  expect_equal(weight_TK.grad(), at::tensor({2., 0.}, at::kDouble).view({1, 2}));
}

TEST(CombineRows, HasGradientsWithoutAnyToken) {
  auto rows_RD = at::ones({4, 2}).requires_grad_(true);
  auto weight_TK = at::ones({0, 2}).requires_grad_(true);
  combine_rows(rows_RD, at::empty({0, 2}, at::kLong), weight_TK).sum().backward();
  expect_equal(rows_RD.grad(), at::zeros({4, 2}));
  expect_equal(weight_TK.grad(), at::empty({0, 2}));
}

TEST(DispatchRows, GradientsMatchFiniteDifferences) {
  at::manual_seed(2);
  const auto x_TD = at::randn({3, 2}, at::kDouble), g_RD = at::randn({6, 2}, at::kDouble);
  const auto token_R = longs({0, 2, -1, 0, 1, -1});
  const auto slot_TK = longs({0, 3, 4, -1, 1, -1}).view({3, 2});
  expect_gradient_matches_differences([&](const at::Tensor& x) { return (dispatch_rows(x, token_R, slot_TK) * g_RD).sum(); }, x_TD);
}

TEST(SlotsByToken, PutsEveryRowWhereItsTokenAndChoiceAre) {
  expect_equal(slots_by_token(longs({2, 0, 2}), longs({1, 0, 0}), longs({7, 8, 9}), 3, 2), longs({8, -1, -1, -1, 9, 7}).view({3, 2}));
}

TEST(InvertPlaces, IsTheInverseAndMinusOneWhereNothingGoes) {
  expect_equal(invert_places(longs({3, -1, 0, -1}), 5), longs({2, -1, -1, 0, -1}));
  expect_equal(invert_places(at::empty({0}, at::kLong), 2), longs({-1, -1}));
}

}  // namespace
}  // namespace switchyard
