#include "parallel/all_to_all_dispatcher.h"

#include <gtest/gtest.h>

#include "tests/mpi/world.h"
#include "tests/parallel/dispatcher_conformance.h"

namespace switchyard {
namespace {

class AllToAllOverMpi : public testing::TestWithParam<conformance::Scenario> {};

TEST_P(AllToAllOverMpi, EqualsTheLocalDispatcherToTheBit) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    for (const int64_t num_chunks : {1, 2}) {
      conformance::equals_the_local_dispatcher_to_the_bit(test_world(), GetParam(), dtype, num_chunks);
    }
  }
}

TEST_P(AllToAllOverMpi, ReturnsTheWeightedTokens) {
  conformance::returns_the_weighted_tokens(test_world(), GetParam());
}

TEST_P(AllToAllOverMpi, BackwardOfDispatchIsItsAdjoint) {
  conformance::backward_of_dispatch_is_its_adjoint(test_world(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Dispatcher, AllToAllOverMpi, testing::ValuesIn(conformance::scenarios()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace switchyard
