// A job on ranks with GPU tensors against the same job on one CPU rank, in float64: losses, terms, norms and routing sums.
#include <gtest/gtest.h>

#include "parallel/device_communicator.h"
#include "tests/elsewhere_communicator.h"
#include "tests/gpu/gpu.h"
#include "tests/layout_run.h"
#include "tests/mpi/world.h"

namespace switchyard {
namespace {

CommunicatorPtr world_of_gpus() {
  auto over_hosts = std::make_shared<ElsewhereCommunicator>(test_world()->split(0), at::kCPU);
  return make_device_communicator(test_world(), std::move(over_hosts));
}

LayoutCase job_of_ranks() {
  LayoutCase job;
  job.masked_tail = 3;
  auto& moe = *job.model.moe;
  moe.num_experts = 8;
  moe.capacity_factor = 1.0;
  moe.capacity_group.sequences = 1;
  moe.shared_expert_ffn_hidden_size = 8;
  moe.expert_dropout = 0.1;
  return job;
}

/// `change` makes a layout of the job, with all ranks as one expert group.
template <class Change>
void expect_same_on_gpus(Change change) {
  auto job = job_of_ranks();
  const auto reference = train_here(job, make_single_communicator());
  job.device = kGpu;
  job.parallel.expert = test_world()->size();
  job.micro_batch_size = job.global_batch_size / test_world()->size();
  change(job);
  const auto trace = train_here(job, world_of_gpus());
  EXPECT_LT(largest_difference(reference, trace, reference.steps.size()), 1e-9);
  EXPECT_LT(largest_tensor_difference(reference, trace, job), 1e-9);
  EXPECT_EQ(trace.replica_spread, 0.0);
}

TEST(GpuRanks, ShareOutExperts) {
  expect_same_on_gpus([](LayoutCase&) {});
}

TEST(GpuRanks, AreReplicas) {
  expect_same_on_gpus([](LayoutCase& job) { job.parallel.expert = 1; });
}

TEST(GpuRanks, AccumulateGradients) {
  expect_same_on_gpus([](LayoutCase& job) { job.micro_batch_size = 1; });
}

TEST(GpuRanks, SendInChunksAndComputeAgain) {
  for (const auto recompute : {Recompute::kMoe, Recompute::kBlock}) {
    expect_same_on_gpus([&](LayoutCase& job) {
      job.parallel.dispatch_chunks = 2;
      job.recompute = recompute;
    });
  }
}

TEST(GpuRanks, ShareOutOptimizerStateWhileGradientsAreSummed) {
  for (const int64_t zero_stage : {0, 1}) {
    expect_same_on_gpus([&](LayoutCase& job) {
      job.parallel.expert = 1;
      job.parallel.zero_stage = zero_stage;
      job.parallel.overlap_gradient_sync = true;
      job.parallel.gradient_bucket_size = 1000;
    });
  }
}

}  // namespace
}  // namespace switchyard
