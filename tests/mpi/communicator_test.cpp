// The conformance checks over MPI processes, and what only they can show.
#include <functional>
#include <numeric>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/hierarchical_communicator.h"
#include "parallel/mpi_communicator.h"
#include "tests/mpi/world.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard {
namespace {

class MpiRanks : public testing::TestWithParam<conformance::Check> {};

TEST_P(MpiRanks, Conform) {
  GetParam().run(*test_world());
}

TEST_P(MpiRanks, ConformInGroupsOfTwo) {
  GetParam().run(*test_world()->split(test_world()->rank() / 2));
}

/// As if the ranks stood on two machines in turns.
TEST_P(MpiRanks, ConformInTwoStages) {
  const auto world = test_world();
  std::vector<int64_t> node_of_rank;
  for (int64_t rank = 0; rank < world->size(); ++rank) node_of_rank.push_back(rank % 2);
  GetParam().run(*make_hierarchical_communicator(world, node_of_rank));
}

INSTANTIATE_TEST_SUITE_P(Communicator, MpiRanks, testing::ValuesIn(conformance::kChecks), [](const auto& info) { return info.param.name; });

TEST(MpiCommunicator, MovesMegabytesWithoutLosingTheOrder) {
  auto world = test_world();
  const int64_t rows = 20000, n = world->size();
  const std::vector<int64_t> rows_each(n, rows);
  const auto sent = (at::arange(n * rows * 16) + world->rank() * 1000000000).view({n * rows, 16});
  auto received = at::zeros_like(sent);
  world->all_to_all(sent, rows_each, received, rows_each)->wait();
  const auto mine = (at::arange(rows * 16) + world->rank() * rows * 16).view({rows, 16});
  for (int64_t sender = 0; sender < n; ++sender) expect_equal(received.narrow(0, sender * rows, rows), mine + sender * 1000000000);
}

TEST(MpiCommunicator, ASecondStartInTheSameProcessIsRefused) {
  EXPECT_THROW(make_mpi_communicator(1), RunError);
  EXPECT_THROW(make_mpi_communicator(1, int64_t{1} << 31), c10::Error);  // one byte more than MPI can count
}

std::string failure_of(const std::function<void()>& exchange) {
  try {
    exchange();
  } catch (const RunError& error) {
    return error.what();
  }
  return "no failure";
}

TEST(MpiCommunicator, ASkippedExchangeIsAnErrorOnEveryRankThatNamesBothSides) {
  const auto group = test_world()->split(0);  // not used again: it is out of step afterwards
  const auto failure = failure_of([&] {
    if (group->rank() == 0) {
      group->barrier();  // the others have left out a gather of 5 doubles
    } else {
      group->all_gather(at::zeros({5}, at::kDouble));
    }
  });
  const std::string expected = group->rank() == 0 ? "'s all_gather (sends this rank 5 and expects 5 of 8 bytes each)"
                                                  : "all_gather (sends rank 0 5 and expects 5 of 8 bytes each) meets rank 0's barrier (";
  EXPECT_NE(failure.find(expected), failure.npos) << failure;
}

TEST(MpiCommunicator, RowsThatTheReceiversDoNotExpectAreAnErrorOnBothSides) {
  const auto group = test_world()->split(0);
  const int64_t n = group->size();
  std::vector<int64_t> sends(n, group->rank() == 0 ? 3 : 2);
  const std::vector<int64_t> expects(n, 2);
  sends[group->rank()] = 2;
  const auto send = at::zeros({std::accumulate(sends.begin(), sends.end(), int64_t{0})}, at::kLong);
  auto received = at::zeros({2 * n}, at::kLong);
  const auto failure = failure_of([&] { group->all_to_all(send, sends, received, expects)->wait(); });
  const std::string expected = group->rank() == 0 ? " 3 and expects 2 of 8 bytes each) meets rank "
                                                  : "meets rank 0's all_to_all (sends this rank 3 and expects 2 of 8 bytes each)";
  EXPECT_NE(failure.find(expected), failure.npos) << failure;
}

TEST(MpiCommunicator, KnowsItsVersion) {
  EXPECT_FALSE(mpi_version().empty());
}

TEST(MpiCommunicator, LauncherAndMpiAgree) {
  const auto info = read_launch_info();
  EXPECT_EQ(info.rank, test_world()->rank());
  EXPECT_EQ(info.world_size, test_world()->size());
}

}  // namespace
}  // namespace switchyard
