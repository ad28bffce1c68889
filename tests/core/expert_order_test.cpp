#include "core/expert_order.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/tensors.h"

namespace switchyard {
namespace {

TEST(SortByExpert, OrdersByExpertThenTokenWhateverTheOrderOfTheList) {
  // token 0 -> 2, 0; token 1 -> 2, nowhere; token 2 -> 0, 2. Listed by choice, the tokens backwards.
  const Routing routing{longs({2, 1, 0, 2, 1, 0}), longs({0, 2, 2, 2, 3, 0}), at::ones({6}), longs({0, 0, 0, 1, 1, 1}), 3, 2};
  const auto sorted = sort_by_expert(routing, 3);
  expect_equal(sorted.counts_E, longs({2, 0, 3}));
  expect_equal(sorted.token_N, longs({0, 2, 0, 1, 2, 1}));
  expect_equal(sorted.choice_N, longs({1, 0, 0, 0, 1, 1}));
}

TEST(SortByExpert, AcceptsAnEmptyList) {
  const auto none = at::empty({0}, at::kLong);
  const auto sorted = sort_by_expert({none, none, at::empty({0}), none, 4, 2}, 0);
  expect_equal(sorted.counts_E, longs({0, 0, 0, 0}));
  EXPECT_EQ(sorted.token_N.numel(), 0);
}

TEST(SortByExpert, RefusesListsOfDifferentLengths) {
  EXPECT_THROW(sort_by_expert({longs({0}), longs({0, 1}), at::ones({2}), longs({0, 0}), 2, 1}, 1), c10::Error);
}

TEST(RowsOfArrivals, StandByExpertThenSourceAndEveryExpertStartsOnAMultipleOf16) {
  //            expert 0  expert 1  expert 2         arrivals
  // source 0       2         0         1            0 1 | | 2
  // source 1       1         17        0            3 | 4 ... 20 |
  // rows: expert 0: 0 1 3 then padding to 16; expert 1: 16 ... 32 then padding to 48; expert 2: 48
  const auto row_A = rows_of_arrivals(longs({2, 0, 1, 1, 17, 0}).view({2, 3}), 21);
  expect_equal(row_A, at::cat({longs({0, 1, 48, 2}), at::arange(16, 33)}));
}

TEST(RowsOfArrivals, AcceptsNone) {
  EXPECT_EQ(rows_of_arrivals(at::zeros({2, 3}, at::kLong), 0).numel(), 0);
}

TEST(WeightsByToken, StandWhereTokenAndChoiceSayAndCarryTheGradient) {
  auto weight_N = at::tensor({0.1, 0.2, 0.3}, at::kDouble).requires_grad_(true);
  const auto weight_TK = weights_by_token({longs({1, 0, 1}), longs({0, 0, 1}), weight_N, longs({1, 0, 0}), 2, 2}, 2);
  expect_equal(weight_TK, at::tensor({0.2, 0., 0.3, 0.1}, at::kDouble).view({2, 2}));
  (weight_TK * at::tensor({1., 2., 3., 4.}, at::kDouble).view({2, 2})).sum().backward();
  expect_equal(weight_N.grad(), at::tensor({4., 1., 3.}, at::kDouble));
}

TEST(ExpertChunks, DifferByOneExpertAtMost) {
  EXPECT_EQ(chunk_starts_of(4, 1), (std::vector<int64_t>{0, 4}));
  EXPECT_EQ(chunk_starts_of(4, 2), (std::vector<int64_t>{0, 2, 4}));
  EXPECT_EQ(chunk_starts_of(5, 3), (std::vector<int64_t>{0, 1, 3, 5}));
  EXPECT_THROW(chunk_starts_of(2, 3), c10::Error);
}

TEST(ExpertChunks, AreSentOneAfterTheOtherEachRankByRank) {
  // Two ranks of 3 experts, chunks of 1 and 2:  chunk 0: 0 | 3   chunk 1: 1 2 | 4 5   and 6 = nowhere
  // place                                                0   1            2 3   4 5       6
  expect_equal(places_by_chunk({0, 1, 3}, 2), longs({0, 2, 3, 1, 4, 5, 6}));
}

}  // namespace
}  // namespace switchyard
