#include <cstdlib>

#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/communicator.h"

namespace switchyard {
namespace {

/// An environment without any launcher, put back at the end.
class LaunchInfoTest : public testing::Test {
 protected:
  LaunchInfoTest() {
    for (const char* name : kNames) {
      if (const char* value = std::getenv(name)) saved_.emplace_back(name, value);
      unsetenv(name);
    }
  }
  ~LaunchInfoTest() override {
    for (const char* name : kNames) unsetenv(name);
    for (const auto& [name, value] : saved_) setenv(name.c_str(), value.c_str(), 1);
  }

  static void set(std::initializer_list<std::pair<const char*, const char*>> variables) {
    for (const auto& [name, value] : variables) setenv(name, value, 1);
  }

  static void expect(int64_t rank, int64_t world_size, int64_t local_rank, int64_t local_size) {
    const auto info = read_launch_info();
    EXPECT_EQ(info.rank, rank);
    EXPECT_EQ(info.world_size, world_size);
    EXPECT_EQ(info.local_rank, local_rank);
    EXPECT_EQ(info.local_size, local_size);
  }

 private:
  static constexpr const char* kNames[] = {"OMPI_COMM_WORLD_RANK",
                                           "OMPI_COMM_WORLD_SIZE",
                                           "OMPI_COMM_WORLD_LOCAL_RANK",
                                           "OMPI_COMM_WORLD_LOCAL_SIZE",
                                           "PMI_RANK",
                                           "PMI_SIZE",
                                           "MPI_LOCALRANKID",
                                           "MPI_LOCALNRANKS",
                                           "SLURM_PROCID",
                                           "SLURM_LOCALID",
                                           "SLURM_NODEID",
                                           "SLURM_STEP_NUM_TASKS",
                                           "SLURM_STEP_TASKS_PER_NODE"};
  std::vector<std::pair<std::string, std::string>> saved_;
};

TEST_F(LaunchInfoTest, IsOneRankWithoutALauncher) {
  expect(0, 1, 0, 1);
}

TEST_F(LaunchInfoTest, ReadsOpenMpi) {
  set({{"OMPI_COMM_WORLD_RANK", "5"},
       {"OMPI_COMM_WORLD_SIZE", "8"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
       {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  expect(5, 8, 1, 4);
}

TEST_F(LaunchInfoTest, BelievesMpirunBeforeTheSlurmStepOfItsDaemons) {
  set({{"OMPI_COMM_WORLD_RANK", "5"},
       {"OMPI_COMM_WORLD_SIZE", "8"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
       {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  set({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_TASKS_PER_NODE", "1(x2)"}, {"SLURM_NODEID", "1"}});
  expect(5, 8, 1, 4);
}

TEST_F(LaunchInfoTest, FindsTheNodesTasksInSlurmsList) {
  set({{"SLURM_PROCID", "6"}, {"SLURM_STEP_NUM_TASKS", "7"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}, {"SLURM_LOCALID", "0"}});
  set({{"SLURM_NODEID", "3"}});
  expect(6, 7, 0, 1);
  set({{"SLURM_PROCID", "5"}, {"SLURM_LOCALID", "1"}, {"SLURM_NODEID", "2"}});
  expect(5, 7, 1, 2);
}

TEST_F(LaunchInfoTest, ABatchScriptIsNotARank) {
  set({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}});
  expect(0, 1, 0, 1);
}

TEST_F(LaunchInfoTest, ReadsHydra) {
  set({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}});
  expect(1, 2, 1, 2);
}

TEST_F(LaunchInfoTest, RefusesWhatIsNotANumber) {
  set({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "two"}});
  EXPECT_THROW(read_launch_info(), UserError);
}

}  // namespace
}  // namespace switchyard
