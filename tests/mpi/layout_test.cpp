// The same job on real processes as on one: losses, terms, norms and routing sums.
#include <gtest/gtest.h>

#include "tests/layout_run.h"
#include "tests/mpi/world.h"

namespace switchyard {
namespace {

class LayoutOverProcesses : public ::testing::TestWithParam<double> {};

TEST_P(LayoutOverProcesses, EqualsOneRankOverThirtySteps) {
  LayoutCase job{.steps = 30};
  if (GetParam() > 0.0) job.model.moe->capacity_factor = GetParam();
  const auto world = test_world();
  auto alone = job;
  alone.parallel.expert = 1;
  const auto reference = train_here(alone, make_single_communicator());
  for (int64_t expert = 1; expert <= world->size(); expert *= 2) {
    for (const int64_t accumulation : {1, 2}) {
      job.parallel.expert = expert;
      job.micro_batch_size = job.global_batch_size / (world->size() * accumulation);
      const auto trace = train_here(job, world);
      EXPECT_LT(largest_difference(reference, trace, 1), 1e-11) << "expert " << expert << ", accumulation " << accumulation;
      EXPECT_LT(largest_difference(reference, trace, 30), 1e-10) << "expert " << expert << ", accumulation " << accumulation;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DroplessAndCapacity, LayoutOverProcesses, ::testing::Values(0.0, 1.0));

}  // namespace
}  // namespace switchyard
