// The conformance checks over GPUs, and what only they can show.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/device_communicator.h"
#include "tests/elsewhere_communicator.h"
#include "tests/nccl/worlds.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard {
namespace {

class NcclRanks : public testing::TestWithParam<conformance::Check> {};

TEST_P(NcclRanks, Conform) {
  ElsewhereCommunicator world(gpu_world(), gpu());
  GetParam().run(world);
}

TEST_P(NcclRanks, ConformInGroupsOfTwo) {
  ElsewhereCommunicator world(gpu_world(), gpu());
  GetParam().run(*world.split(gpu_world()->rank() / 2));
}

INSTANTIATE_TEST_SUITE_P(Communicator, NcclRanks, testing::ValuesIn(conformance::kChecks),
                         [](const auto& info) { return info.param.name; });

/// The current stream is still at work on what is sent when the exchange is started, and its next work takes the result: no wait on the
/// host lies between.
TEST(NcclCommunicator, StandsBetweenTheCurrentStreamsWorkBeforeAndAfter) {
  const auto world = gpu_world();
  const int64_t n = world->size(), width = 4096;
  auto factor = at::full({width, width}, 1.0 / static_cast<double>(width), at::dtype(at::kFloat).device(gpu()));
  auto x = at::full({width, width}, static_cast<double>(world->rank() + 1), factor.options());
  for (int i = 0; i < 20; ++i) x = x.mm(factor);  // stays as it is, and takes a while
  world->all_reduce_sum(x)->wait();
  const auto doubled = x * 2;
  EXPECT_TRUE(at::allclose(doubled.cpu(), at::full({width, width}, static_cast<double>(n * (n + 1)), at::kFloat)));
}

TEST(NcclCommunicator, SumsHaveTheBitsOfTheHostsSums) {
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kDouble}) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(23 + host_world()->rank());
    auto on_host = at::randn({100003}, generator, at::TensorOptions().dtype(at::kDouble)).to(dtype);
    auto on_gpu = on_host.to(gpu());
    host_world()->all_reduce_sum(on_host)->wait();
    gpu_world()->all_reduce_sum(on_gpu)->wait();
    expect_equal(on_gpu.cpu(), on_host);
  }
}

TEST(NcclCommunicator, ShowsBothSidesAsOne) {
  const auto both = make_device_communicator(host_world(), gpu_world());
  auto on_host = at::full({1}, both->rank(), at::kLong), on_gpu = at::full({1}, both->rank(), at::dtype(at::kLong).device(gpu()));
  both->all_reduce_sum(on_host)->wait();
  both->all_reduce_sum(on_gpu)->wait();
  expect_equal(on_gpu.cpu(), on_host);
  both->barrier();
}

TEST(NcclCommunicator, RefusesTensorsOfTheHost) {
  EXPECT_THROW(gpu_world()->all_reduce_sum(at::ones({2})), c10::Error);
}

}  // namespace
}  // namespace switchyard
