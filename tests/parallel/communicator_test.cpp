// The conformance checks over one rank and over ranks as threads, and what only ranks in one process can show.
#include <atomic>
#include <functional>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard {
namespace {

class ThreadRanks : public testing::TestWithParam<std::tuple<conformance::Check, int>> {};

TEST_P(ThreadRanks, Conform) {
  const auto [check, num_ranks] = GetParam();
  run_ranks_as_threads(num_ranks, [&](CommunicatorPtr group) { check.run(*group); });
}

INSTANTIATE_TEST_SUITE_P(Communicator, ThreadRanks, testing::Combine(testing::ValuesIn(conformance::kChecks), testing::Values(1, 2, 3, 4)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + std::string("On") + std::to_string(std::get<1>(info.param));
                         });

class SingleRank : public testing::TestWithParam<conformance::Check> {};

TEST_P(SingleRank, Conforms) {
  GetParam().run(*make_single_communicator());
}

INSTANTIATE_TEST_SUITE_P(Communicator, SingleRank, testing::ValuesIn(conformance::kChecks),
                         [](const auto& info) { return info.param.name; });

TEST(SingleRank, AbortEndsTheProcessWithTheCode) {
  EXPECT_EXIT(make_single_communicator()->abort(3), testing::ExitedWithCode(3), "");
}

TEST(ThreadRanksTest, OneThatThrowsEndsTheOthersAndItsExceptionComesOut) {
  std::atomic<int> num_ended_by_the_failure{0};
  try {
    run_ranks_as_threads(3, [&](CommunicatorPtr group) {
      group->barrier();
      if (group->rank() == 1) throw std::invalid_argument("no such thing");
      EXPECT_THROW(
          {
            try {
              group->barrier();
            } catch (const RunError& error) {
              EXPECT_STREQ(error.what(), "rank 1 failed: no such thing");
              throw;
            }
          },
          RunError);
      ++num_ended_by_the_failure;
    });
    FAIL() << "the exception was lost";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "no such thing");
  }
  EXPECT_EQ(num_ended_by_the_failure, 2);
}

TEST(ThreadRanksTest, AFailureReachesRanksThatWaitInASubgroup) {
  EXPECT_THROW(run_ranks_as_threads(3,
                                    [](CommunicatorPtr group) {
                                      const auto pair = group->split(group->rank() / 2);  // {0, 1} {2}
                                      if (group->rank() == 2) throw std::invalid_argument("alone");
                                      if (group->rank() == 1) group->barrier();  // never complete
                                      pair->barrier();
                                    }),
               std::invalid_argument);
}

std::string failure_on_threads(int64_t num_ranks, const std::function<void(CommunicatorPtr)>& body) {
  try {
    run_ranks_as_threads(num_ranks, body);
  } catch (const RunError& error) {
    return error.what();
  }
  return "no failure";
}

TEST(ThreadRanksTest, ARankThatLeavesEarlyIsAnErrorForThoseWhoWaitForIt) {
  const auto failure = failure_on_threads(3, [](CommunicatorPtr group) {
    if (group->rank() != 0) group->split(0);  // among them rank 0
  });
  EXPECT_EQ(failure, "split among ranks [0 1 2]: rank 0 ended without it");
}

TEST(ThreadRanksTest, CountsOnWhichTwoRanksDisagreeAreAnErrorThatNamesBoth) {
  const auto failure = failure_on_threads(2, [](CommunicatorPtr group) {
    const std::vector<int64_t> send_rows = {1, 1};
    const std::vector<int64_t> receive_rows = group->rank() == 0 ? std::vector<int64_t>{1, 2} : send_rows;
    auto received = at::zeros({receive_rows[0] + receive_rows[1]}, at::kDouble);
    group->all_to_all(at::zeros({2}, at::kDouble), send_rows, received, receive_rows)->wait();
  });
  const std::string of_0 = "(sends rank 1 1 and expects 2 of 8 bytes each) meets rank 1's all_to_all (sends this rank 1 and expects 1";
  const std::string of_1 = "(sends rank 0 1 and expects 1 of 8 bytes each) meets rank 0's all_to_all (sends this rank 1 and expects 2";
  EXPECT_TRUE(failure.find(of_0) != failure.npos || failure.find(of_1) != failure.npos) << failure;
}

TEST(ThreadRanksTest, ASkippedExchangeIsAnErrorAtTheNextOne) {
  const auto failure = failure_on_threads(2, [](CommunicatorPtr group) {
    if (group->rank() == 0) group->all_gather(at::zeros({3}, at::kFloat));
    group->all_reduce_max(at::zeros({5}, at::kFloat));
  });
  EXPECT_NE(failure.find("exchanges do not match: all_gather (sends rank"), failure.npos) << failure;
}

TEST(ThreadRanksTest, ReceivedRowsAreNotThereBeforeTheWait) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    auto received = at::full({2}, -1.0);
    auto work = group->all_to_all(at::ones({2}), {1, 1}, received, {1, 1});
    group->barrier();
    expect_equal(received, at::full({2}, -1.0));
    work->wait();
    expect_equal(received, at::ones({2}));
  });
}

TEST(ThreadRanksTest, AbortOfOneEndsAll) {
  EXPECT_THROW(run_ranks_as_threads(2,
                                    [](CommunicatorPtr group) {
                                      if (group->rank() == 0) group->abort(1);
                                      group->barrier();
                                    }),
               RunError);
}

}  // namespace
}  // namespace switchyard
