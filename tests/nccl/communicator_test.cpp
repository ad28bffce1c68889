// The conformance checks over GPUs, and what only they can show.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/device_communicator.h"
#include "parallel/forwarding_communicator.h"
#include "tests/nccl/worlds.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard {
namespace {

/// Brings what an exchange has left on the GPU back to the CPU tensor that stands for it.
class BringingWork : public Work {
 public:
  BringingWork(std::unique_ptr<Work> inner, at::Tensor on_gpu, at::Tensor on_cpu)
      : inner_(std::move(inner)), on_gpu_(std::move(on_gpu)), on_cpu_(std::move(on_cpu)) {}
  ~BringingWork() override {
    if (inner_) bring();
  }
  void wait() override {
    TORCH_CHECK(inner_, "Work::wait: called twice");
    bring();
  }

 private:
  void bring() {
    std::exchange(inner_, nullptr)->wait();
    on_cpu_.detach().copy_(on_gpu_);
  }

  std::unique_ptr<Work> inner_;
  at::Tensor on_gpu_, on_cpu_;
};

/// Takes the CPU tensors of the conformance checks over the GPU and back.
class OverGpu : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    const auto copy = tensor.to(gpu());
    return std::make_unique<BringingWork>(inner_->all_reduce_sum(copy), copy, tensor);
  }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    const auto copy = tensor.to(gpu());
    return std::make_unique<BringingWork>(inner_->reduce_scatter_sum(copy, parts), copy, tensor);
  }
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    const auto copy = tensor.to(gpu());
    return std::make_unique<BringingWork>(inner_->all_gather_parts(copy, parts), copy, tensor);
  }
  void all_reduce_max(at::Tensor tensor) override {
    const auto copy = tensor.to(gpu());
    inner_->all_reduce_max(copy);
    tensor.copy_(copy);
  }
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    const auto copy = receive.to(gpu());
    return std::make_unique<BringingWork>(inner_->all_to_all(send.to(gpu()), send_rows, copy, receive_rows), copy, receive);
  }
  at::Tensor all_gather(const at::Tensor& tensor) override { return inner_->all_gather(tensor.to(gpu())).cpu(); }
  void broadcast(at::Tensor tensor, int64_t root) override {
    const auto copy = tensor.to(gpu());
    inner_->broadcast(copy, root);
    tensor.copy_(copy);
  }
  CommunicatorPtr split(int64_t color) override { return std::make_shared<OverGpu>(inner_->split(color)); }
};

class NcclRanks : public testing::TestWithParam<conformance::Check> {};

TEST_P(NcclRanks, Conform) {
  OverGpu world(gpu_world());
  GetParam().run(world);
}

TEST_P(NcclRanks, ConformInGroupsOfTwo) {
  OverGpu world(gpu_world());
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
