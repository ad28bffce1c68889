// The dispatcher of one rank. The one over ranks is held to the same results in tests/parallel.
#include "core/dispatcher.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/finite_differences.h"
#include "tests/tensors.h"

namespace switchyard {
namespace {

/// token 0 -> experts 2, 0; token 1 -> 2 and nowhere; token 2 -> 0, 2. Nobody wants expert 1.
Routing example_routing(const at::Tensor& weight_N) {
  return {longs({0, 0, 1, 1, 2, 2}), longs({2, 0, 2, 3, 0, 2}), weight_N, longs({0, 1, 0, 1, 0, 1}), 3, 2};
}

/// There and back, the experts changing nothing.
at::Tensor there_and_back(TokenDispatcher& dispatcher, const at::Tensor& x_TD, const Routing& routing) {
  auto ticket = dispatcher.begin(x_TD, routing);
  const auto rows = dispatcher.finish(*ticket);
  dispatcher.combine_begin(*ticket, rows.rows_RD);
  return dispatcher.combine_finish(*ticket);
}

TEST(LocalDispatcher, LaysRowsOutByExpertThenTokenWithPaddingToSixteen) {
  // row  0  token 0 (second choice)   expert 0
  // row  1  token 2 (first choice)
  // rows 2-15  zero
  // row 16  token 0                   expert 2 (expert 1 has no rows at all)
  // row 17  token 1
  // row 18  token 2
  // rows 19-31 zero
  const auto x_TD = at::tensor({1., 2., 3.}).view({3, 1});
  auto dispatcher = make_local_dispatcher(3);
  auto ticket = dispatcher->begin(x_TD, example_routing(at::ones({6})));
  const auto rows = dispatcher->finish(*ticket);
  EXPECT_EQ(rows.row_counts_e, (std::vector<int64_t>{2, 0, 3}));
  auto expected_RD = at::zeros({32, 1}, at::kDouble);
  expected_RD.narrow(0, 0, 2).copy_(at::tensor({1., 3.}).view({2, 1}));
  expected_RD.narrow(0, 16, 3).copy_(at::tensor({1., 2., 3.}).view({3, 1}));
  expect_equal(rows.rows_RD, expected_RD);
}

TEST(LocalDispatcher, WeighsWhatComesBackAndLeavesOutWhatWentNowhere) {
  const auto x_TD = at::tensor({1., 2., 4.}, at::kDouble).view({3, 1});
  const auto weight_N = at::tensor({0.5, 0.25, 0.5, 8., 0.125, 1.}, at::kDouble);
  const auto y_TD = there_and_back(*make_local_dispatcher(3), x_TD, example_routing(weight_N));
  expect_equal(y_TD, at::tensor({0.75, 1., 4.5}, at::kDouble).view({3, 1}));
}

TEST(LocalDispatcher, GradientsMatchFiniteDifferences) {
  at::manual_seed(3);
  const auto x_TD = at::randn({3, 2}, at::kDouble), weight_N = at::randn({6}, at::kDouble), g_TD = at::randn({3, 2}, at::kDouble);
  auto dispatcher = make_local_dispatcher(3);
  const auto loss = [&](const at::Tensor& x, const at::Tensor& weight) {
    return (there_and_back(*dispatcher, x, example_routing(weight)) * g_TD).sum();
  };
  expect_gradient_matches_differences([&](const at::Tensor& x) { return loss(x, weight_N); }, x_TD);
  expect_gradient_matches_differences([&](const at::Tensor& weight) { return loss(x_TD, weight); }, weight_N);
}

TEST(LocalDispatcher, StaysInTheGraphWithoutTokensAndWithoutKeptAssignments) {
  const auto none = at::empty({0}, at::kLong);
  auto no_tokens = at::empty({0, 2}).requires_grad_(true);
  auto y_TD = there_and_back(*make_local_dispatcher(3), no_tokens, {none, none, at::empty({0}), none, 3, 2});
  EXPECT_EQ(y_TD.sizes(), (std::vector<int64_t>{0, 2}));
  y_TD.sum().backward();
  EXPECT_EQ(no_tokens.grad().sizes(), (std::vector<int64_t>{0, 2}));

  auto x_TD = at::ones({2, 2}).requires_grad_(true);
  y_TD = there_and_back(*make_local_dispatcher(3), x_TD, {longs({0, 1}), longs({3, 3}), at::ones({2}), longs({0, 0}), 3, 1});
  expect_equal(y_TD, at::zeros({2, 2}));
  y_TD.sum().backward();
  expect_equal(x_TD.grad(), at::zeros({2, 2}));
}

TEST(LocalDispatcher, RefusesARoutingOverAnotherNumberOfExperts) {
  EXPECT_THROW(make_local_dispatcher(4)->begin(at::ones({3, 1}), example_routing(at::ones({6}))), c10::Error);
}

}  // namespace
}  // namespace switchyard
