#include "parallel/process_mesh.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard {
namespace {

std::vector<int64_t> members(Communicator& group, int64_t world_rank) {
  const auto ranks = group.all_gather(at::full({1}, world_rank, at::kLong)).view(-1);
  return {ranks.const_data_ptr<int64_t>(), ranks.const_data_ptr<int64_t>() + ranks.numel()};
}

TEST(ProcessMesh, ExpertGroupsAreConsecutiveRanksAndExpertDataStridesOverThem) {
  //            expert 0  expert 1
  // replica 0     0         1
  // replica 1     2         3
  run_ranks_as_threads(4, [](CommunicatorPtr world) {
    const ProcessMesh mesh(world, 2);
    const int64_t rank = world->rank();
    EXPECT_EQ(members(*mesh.group("data"), rank), (std::vector<int64_t>{0, 1, 2, 3}));
    EXPECT_EQ(members(*mesh.group("expert"), rank), rank < 2 ? (std::vector<int64_t>{0, 1}) : (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(members(*mesh.group("expert_data"), rank), rank % 2 == 0 ? (std::vector<int64_t>{0, 2}) : (std::vector<int64_t>{1, 3}));
  });
}

TEST(ProcessMesh, DegreeOneKeepsAllExpertsOnEveryRankAndFullDegreeOnOne) {
  run_ranks_as_threads(3, [](CommunicatorPtr world) {
    const ProcessMesh replicated(world, 1), spread(world, 3);
    EXPECT_EQ(replicated.group("expert")->size(), 1);
    EXPECT_EQ(replicated.group("expert_data")->rank(), world->rank());
    EXPECT_EQ(spread.group("expert")->rank(), world->rank());
    EXPECT_EQ(spread.group("expert_data")->size(), 1);
  });
}

TEST(ProcessMesh, ExpertOuterPutsReplicasOfAnExpertSideBySide) {
  //            replica 0  replica 1  replica 2
  // expert 0       0          1          2
  // expert 1       3          4          5
  run_ranks_as_threads(6, [](CommunicatorPtr world) {
    const ProcessMesh mesh(world, 2, RankOrder::kExpertOuter);
    const int64_t rank = world->rank();
    EXPECT_EQ(members(*mesh.group("expert"), rank), (std::vector<int64_t>{rank % 3, rank % 3 + 3}));
    EXPECT_EQ(members(*mesh.group("expert_data"), rank), rank < 3 ? (std::vector<int64_t>{0, 1, 2}) : (std::vector<int64_t>{3, 4, 5}));
    EXPECT_EQ(mesh.group("expert")->rank(), rank / 3);
    EXPECT_EQ(mesh.describe(),
              "data groups (1): [0 1 2 3 4 5]\n"
              "expert groups (3): [0 3] [1 4] [2 5]\n"
              "expert_data groups (2): [0 1 2] [3 4 5]");
  });
}

TEST(ProcessMesh, DescribesItsGroups) {
  run_ranks_as_threads(4, [](CommunicatorPtr world) {
    EXPECT_EQ(ProcessMesh(world, 2).describe(),
              "data groups (1): [0 1 2 3]\n"
              "expert groups (2): [0 1] [2 3]\n"
              "expert_data groups (2): [0 2] [1 3]");
  });
}

TEST(ProcessMesh, RefusesADegreeThatDoesNotDivideAndNamesThoseThatDo) {
  run_ranks_as_threads(4, [](CommunicatorPtr world) {
    for (const int64_t degree : {3, 0, -2, 8}) {
      try {
        ProcessMesh(world, degree);
        ADD_FAILURE() << degree << " was accepted";
      } catch (const UserError& error) {
        EXPECT_NE(std::string(error.what()).find("use one of 1, 2, 4"), std::string::npos) << error.what();
      }
    }
  });
}

TEST(ProcessMesh, RefusesAnUnknownAxis) {
  const ProcessMesh mesh(make_single_communicator(), 1);
  EXPECT_THROW(mesh.group("tensor"), c10::Error);
}

}  // namespace
}  // namespace switchyard
