// What is said of an exchange that the ranks do not enter together.
#include "parallel/exchange_notice.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace switchyard {
namespace {

std::string mismatch(const ExchangeNotice& mine, const ExchangeNotice& theirs) {
  try {
    check_notices_match(mine, theirs, /*peer=*/2);
  } catch (const RunError& error) {
    return error.what();
  }
  return "";
}

const ExchangePlan kRows{"all_to_all", /*row_bytes=*/64, /*sends=*/{1, 2, 3}, /*expects=*/{4, 5, 6}};

TEST(ExchangePlan, IsDescribedWithItsRanksAndCounts) {
  EXPECT_EQ(describe(kRows, {0, 2, 4}), "all_to_all among ranks [0 2 4] (rows of 64 bytes, sends [1 2 3], expects [4 5 6])");
  EXPECT_EQ(describe({"barrier"}, {0, 1}), "barrier among ranks [0 1]");
  EXPECT_EQ(name_ranks({3}), "rank 3");
  EXPECT_EQ(name_ranks({0, 3}), "ranks 0, 3");
}

TEST(ExchangePlan, OfManyRanksIsCutShort) {
  const std::vector<int64_t> many(1000, 1);
  EXPECT_LT(describe({"all_to_all", 8, many, many}, many).size(), 600u);
}

TEST(ExchangeNotices, MatchWhereOneSidesSendsAreTheOthersExpectations) {
  EXPECT_EQ(mismatch({.sends = 3, .expects = 5}, {.sends = 5, .expects = 3}), "");
  const ExchangePlan other{"all_to_all", 64, {6, 0, 0}, {3, 0, 0}};
  EXPECT_EQ(mismatch(notice_for(2, kRows, {}), notice_for(0, other, {})), "");
}

TEST(ExchangeNotices, NameBothSidesExchangesCountsAndPositions) {
  const auto mine = notice_for(2, kRows, {.step = 7, .layer = 1, .phase = Phase::kDispatch});
  const auto theirs = notice_for(0, {"all_reduce_sum", 4, {9, 9, 9}, {8, 8, 8}}, {.step = 7, .layer = -1, .phase = Phase::kGradientSync});
  EXPECT_EQ(
      mismatch(mine, theirs),
      "exchanges do not match: all_to_all (sends rank 2 3 and expects 6 of 64 bytes each) at step 7, layer 1, dispatch meets rank 2's "
      "all_reduce_sum (sends this rank 9 and expects 8 of 4 bytes each) at step 7, gradient sync; one of the two has skipped an "
      "exchange, or they count differently");
}

TEST(ExchangeNotices, DifferInOperationRowSizeOrEitherCount) {
  const auto mine = notice_for(2, kRows, {});
  const auto differs = [&](const ExchangePlan& theirs) { return !mismatch(mine, notice_for(0, theirs, {})).empty(); };
  EXPECT_FALSE(differs({"all_to_all", 64, {6}, {3}}));
  EXPECT_TRUE(differs({"all_gather", 64, {6}, {3}}));
  EXPECT_TRUE(differs({"all_to_all", 32, {6}, {3}}));
  EXPECT_TRUE(differs({"all_to_all", 64, {7}, {3}}));
  EXPECT_TRUE(differs({"all_to_all", 64, {6}, {2}}));
}

}  // namespace
}  // namespace switchyard
