// Chunks, recomputation and the place of the shared expert do not change a bit.
#include "tests/execution_equality.h"

namespace switchyard {
namespace {

class ExecutionOverThreads : public ::testing::TestWithParam<int> {
 protected:
  static void run(at::ScalarType dtype, bool skewed) {
    run_ranks_as_threads(GetParam(), [&](const CommunicatorPtr& group) { expect_the_same_bits_in_every_execution(group, dtype, skewed); });
  }
};

TEST_P(ExecutionOverThreads, DoesNotChangeABitInFp64) {
  run(at::kDouble, /*skewed=*/false);
}

TEST_P(ExecutionOverThreads, DoesNotChangeABitInFp32) {
  run(at::kFloat, /*skewed=*/false);
}

TEST_P(ExecutionOverThreads, DoesNotChangeABitInBf16) {
  run(at::kBFloat16, /*skewed=*/false);
}

TEST_P(ExecutionOverThreads, DoesNotChangeABitWhereMostRanksGetNoRows) {
  run(at::kFloat, /*skewed=*/true);
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExecutionOverThreads, ::testing::Values(1, 2, 4));

}  // namespace
}  // namespace switchyard
