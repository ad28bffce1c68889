// ZeRO-1, buckets and overlap over processes: the bits of the plain run.
#include <gtest/gtest.h>

#include "tests/layout_run.h"
#include "tests/mpi/world.h"

namespace switchyard {
namespace {

void expect_the_same_run(const LayoutTrace& a, const LayoutTrace& b, const std::string& what) {
  EXPECT_EQ(largest_difference(a, b, a.steps.size()), 0.0) << what;
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(at::equal(tensor, b.tensors.at(name))) << what << ": " << name;
}

TEST(GradientSyncOverProcesses, DoesNotChangeABitOfTheRun) {
  const auto world = test_world();
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (int64_t expert = 1; expert <= world->size(); expert *= 2) {
      LayoutCase plain{.steps = 5, .dtype = dtype, .micro_batch_size = 8 / (2 * world->size())};
      plain.parallel.expert = expert;
      plain.parallel.gradient_bucket_size = 0;
      const auto reference = train_here(plain, world);
      auto overlapped = plain;
      overlapped.parallel.overlap_gradient_sync = true;
      overlapped.parallel.gradient_bucket_size = 500;
      expect_the_same_run(reference, train_here(overlapped, world), "overlap");
      auto zero = plain;
      zero.parallel.zero_stage = 1;
      zero.parallel.gradient_bucket_size = 333;
      expect_the_same_run(reference, train_here(zero, world), "ZeRO");
      zero.parallel.overlap_gradient_sync = true;
      zero.recompute = Recompute::kBlock;
      expect_the_same_run(reference, train_here(zero, world), "ZeRO and overlap, blocks computed again");
    }
  }
}

}  // namespace
}  // namespace switchyard
