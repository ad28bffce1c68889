// The all-to-all in two stages: which ranks share a machine, the conformance checks over every arrangement, and when it is chosen.
#include "parallel/hierarchical_communicator.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/all_to_all_choice.h"
#include "parallel/forwarding_communicator.h"
#include "parallel/machine_grid.h"
#include "tests/parallel/dispatcher_conformance.h"

namespace switchyard {
namespace {

using Nodes = std::vector<int64_t>;

struct Arrangement {
  const char* name;
  Nodes node_of_rank;
};

const Arrangement kArrangements[] = {
    {"OneRank", {0}},
    {"TwoOnOne", {0, 0}},
    {"OneOnEachOfTwo", {0, 1}},
    {"TwoOnEachOfTwo", {0, 0, 1, 1}},
    {"TwoOnEachOfTwoInTurns", {0, 1, 0, 1}},
    {"TwoOnEachOfTwoInside", {5, 3, 3, 5}},
    {"ThreeOnEachOfTwo", {0, 0, 0, 1, 1, 1}},
    {"TwoOnEachOfThreeInTurns", {0, 1, 2, 0, 1, 2}},
};

void run_in_two_stages(const Nodes& node_of_rank, const std::function<void(CommunicatorPtr)>& body) {
  run_ranks_as_threads(std::ssize(node_of_rank), [&](CommunicatorPtr flat) { body(make_hierarchical_communicator(flat, node_of_rank)); });
}

class TwoStages : public testing::TestWithParam<std::tuple<conformance::Check, Arrangement>> {};

TEST_P(TwoStages, Conform) {
  const auto& [check, arrangement] = GetParam();
  run_in_two_stages(arrangement.node_of_rank, [&](CommunicatorPtr group) { check.run(*group); });
}

INSTANTIATE_TEST_SUITE_P(HierarchicalCommunicator, TwoStages,
                         testing::Combine(testing::ValuesIn(conformance::kChecks), testing::ValuesIn(kArrangements)),
                         [](const auto& info) { return std::get<0>(info.param).name + std::string("On") + std::get<1>(info.param).name; });

/// The local dispatcher is the yardstick of the flat all-to-all too, so equal to it is equal to flat.
TEST(HierarchicalCommunicator, CarriesADispatchWithTheBitsOfTheFlatOne) {
  for (const auto& node_of_rank : {Nodes{0, 0, 1, 1}, Nodes{0, 1, 0, 1}, Nodes{0, 1, 2, 3}}) {
    for (const auto& scenario : conformance::scenarios()) {
      SCOPED_TRACE(scenario.name);
      run_in_two_stages(node_of_rank, [&](CommunicatorPtr group) {
        conformance::equals_the_local_dispatcher_to_the_bit(group, scenario, at::kFloat);
        conformance::equals_the_local_dispatcher_to_the_bit(group, scenario, at::kDouble, /*num_chunks=*/2);
      });
    }
  }
}

/// Counts the exchanges of the group itself; those of the groups that are split off go elsewhere.
class ExchangeCounter : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    ++num_exchanges;
    return inner_->all_to_all(send, send_rows, receive, receive_rows);
  }
  int64_t num_exchanges = 0;
};

TEST(HierarchicalCommunicator, NeverExchangesBetweenAllRanksAtOnce) {
  run_ranks_as_threads(4, [](CommunicatorPtr world) {
    const auto flat = std::make_shared<ExchangeCounter>(world);
    const auto group = make_hierarchical_communicator(flat, {0, 0, 1, 1});
    conformance::exchanges_uneven_rows_in_the_order_of_ranks(*group);
    EXPECT_EQ(flat->num_exchanges, 0);
  });
}

TEST(HierarchicalCommunicator, RefusesMachinesWithUnequalNumbersOfRanks) {
  try {
    check_machines_alike({0, 1, 1, 1});
    FAIL() << "not refused";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "parallel.all_to_all = hierarchical needs the same number of an expert group's ranks on each of its machines, but the "
                 "machines hold 1, 3 of its ranks; start as many ranks on every machine, or use flat or auto");
  }
}

TEST(MachineGrid, OrdersBlocksForBothStages) {
  // Ranks:      0 1 2 3      machine 0: ranks 0 2, machine 1: ranks 1 3.
  // Machine:    0 1 0 1      Rank 0 = (0, 0) gives neighbour (0, 0), itself, the blocks for 0 and 1, neighbour (0, 1) those for 2 and 3.
  const auto grid = arrange_in_grid({0, 1, 0, 1});
  ASSERT_TRUE(grid);
  EXPECT_EQ(grid->ranks_ML, (std::vector<Nodes>{{0, 2}, {1, 3}}));
  const auto route = route_of_rank(*grid, 0);
  EXPECT_EQ(route.inside, (Nodes{0, 1, 2, 3}));
  // Stage 1 brings (neighbour, machine) = 00 01 10 11; stage 2 sends machine 0 the blocks 00 10, machine 1 the blocks 01 11.
  EXPECT_EQ(route.across, (Nodes{0, 2, 1, 3}));
  // Stage 2 brings, by machine: from ranks 0 2, then 1 3. By rank that is places 0 2 1 3.
  EXPECT_EQ(route.by_source, (Nodes{0, 2, 1, 3}));
  EXPECT_FALSE(arrange_in_grid({0, 0, 1}));
}

struct Choice {
  std::string description;
  bool is_hierarchical = false;
};

/// What rank `rank` of the world chooses in expert groups of consecutive ranks.
Choice choose(int64_t num_ranks, int64_t ranks_per_node, int64_t group_size, AllToAllKind kind, int64_t rank = 0) {
  Choice result;
  run_ranks_as_threads(
      num_ranks,
      [&](CommunicatorPtr world) {
        const auto group = world->split(world->rank() / group_size);
        const auto choice = choose_all_to_all(*world, group, kind);
        if (world->rank() == rank) result = {choice.description, choice.group != group};
      },
      ranks_per_node);
  return result;
}

TEST(AllToAllChoice, IsHierarchicalWhereAGroupHasSeveralRanksOnEachOfSeveralMachines) {
  const auto choice = choose(/*num_ranks=*/4, /*ranks_per_node=*/2, /*group_size=*/4, AllToAllKind::kAuto);
  EXPECT_TRUE(choice.is_hierarchical);
  EXPECT_EQ(choice.description, "all-to-all of 1 expert group(s) hierarchical (auto): 2 machine(s) with 2 rank(s) each");
}

TEST(AllToAllChoice, IsFlatWhereTwoStagesSaveNoMessage) {
  for (const auto& [ranks_per_node, group_size, shape] : std::vector<std::tuple<int64_t, int64_t, std::string>>{
           {0, 4, "1 expert group(s) flat (auto): 1 machine(s) with 4 rank(s) each"},
           {1, 4, "1 expert group(s) flat (auto): 4 machine(s) with 1 rank(s) each"},
           {2, 2, "2 expert group(s) flat (auto): 1 machine(s) with 2 rank(s) each"},
           {3, 4, "1 expert group(s) flat (auto): the machines hold 3, 1 of its ranks, hierarchical needs as many on each"},
       }) {
    const auto choice = choose(/*num_ranks=*/4, ranks_per_node, group_size, AllToAllKind::kAuto);
    EXPECT_FALSE(choice.is_hierarchical);
    EXPECT_EQ(choice.description, "all-to-all of " + shape);
  }
}

/// Ranks 0 1 2 3 on one machine, 4 5 6 7 8 9 10 11 on two more: the groups of 6 are {0..5}, with 4 and 2 ranks on two machines, and
/// {6..11}, with 2 and 4.
TEST(AllToAllChoice, IsSaidForAllGroupsOnEveryRank) {
  for (const int64_t rank : {0, 11}) {
    EXPECT_EQ(choose(/*num_ranks=*/12, /*ranks_per_node=*/4, /*group_size=*/6, AllToAllKind::kAuto, rank).description,
              "all-to-all of 1 expert group(s) flat (auto): the machines hold 2, 4 of its ranks, hierarchical needs as many on each; of 1 "
              "expert group(s) flat (auto): the machines hold 4, 2 of its ranks, hierarchical needs as many on each");
  }
}

TEST(AllToAllChoice, FollowsTheConfiguration) {
  EXPECT_FALSE(choose(4, 2, 4, AllToAllKind::kFlat).is_hierarchical);
  EXPECT_TRUE(choose(4, 1, 4, AllToAllKind::kHierarchical).is_hierarchical);
}

/// One group could do it, the other cannot: all ranks refuse.
TEST(AllToAllChoice, HierarchicalIsRefusedOnEveryRankWhereOneGroupCannot) {
  run_ranks_as_threads(
      6,
      [](CommunicatorPtr world) {
        const auto group = world->split(world->rank() / 3);  // machines {0 1 2 3} {4 5}: group 0 has 3 on one, group 1 has 1 and 2
        EXPECT_THROW(choose_all_to_all(*world, group, AllToAllKind::kHierarchical), UserError);
        world->barrier();
      },
      /*ranks_per_node=*/4);
}

}  // namespace
}  // namespace switchyard
