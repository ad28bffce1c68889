// Chunks, recomputation and the place of the shared expert do not change a bit, over processes.
#include "tests/execution_equality.h"
#include "tests/mpi/world.h"

namespace switchyard {
namespace {

TEST(ExecutionOverProcesses, DoesNotChangeABit) {
  expect_the_same_bits_in_every_execution(test_world(), at::kDouble, /*skewed=*/false);
  expect_the_same_bits_in_every_execution(test_world(), at::kFloat, /*skewed=*/true);
}

}  // namespace
}  // namespace switchyard
