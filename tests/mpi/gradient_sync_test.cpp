// ZeRO-1, buckets and overlap over processes: the bits of the plain run.
#include <gtest/gtest.h>

#include "tests/layout_run.h"
#include "tests/mpi/world.h"

namespace switchyard {
namespace {

void expect_the_same_run(const LayoutTrace& a, const LayoutTrace& b, const std::string& what) {
  EXPECT_EQ(largest_difference(a, b, a.steps.size()), 0.0) << what;
}

/// The steps' losses and norms show every earlier update; the last one shows in the pieces that both runs write alike.
TEST(GradientSyncOverProcesses, DoesNotChangeABitOfTheRun) {
  const auto world = test_world();
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (int64_t expert = 1; expert <= world->size(); expert *= 2) {
      LayoutCase plain{.steps = 5, .dtype = dtype, .micro_batch_size = 8 / (2 * world->size())};
      plain.parallel.expert = expert;
      plain.parallel.gradient_bucket_size = 0;
      std::vector<TensorPiece> pieces, overlapped_pieces, zero_pieces;
      const auto reference = train_here(plain, world, pieces);
      auto overlapped = plain;
      overlapped.parallel.overlap_gradient_sync = true;
      overlapped.parallel.gradient_bucket_size = 500;
      expect_the_same_run(reference, train_here(overlapped, world, overlapped_pieces), "overlap");
      ASSERT_EQ(pieces.size(), overlapped_pieces.size());
      for (size_t i = 0; i < pieces.size(); ++i) EXPECT_TRUE(at::equal(pieces[i].data, overlapped_pieces[i].data)) << pieces[i].tensor;
      auto zero = plain;
      zero.parallel.zero_stage = 1;
      zero.parallel.gradient_bucket_size = 333;
      expect_the_same_run(reference, train_here(zero, world, zero_pieces), "ZeRO");
      zero.parallel.overlap_gradient_sync = true;
      zero.recompute = Recompute::kBlock;
      expect_the_same_run(reference, train_here(zero, world, zero_pieces), "ZeRO and overlap, blocks computed again");
    }
  }
}

}  // namespace
}  // namespace switchyard
