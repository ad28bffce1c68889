// How a step is computed does not change its answer: recomputation, chunks and the place of the shared expert, over layouts; and which of
// these are refused.
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/layout_run.h"
#include "tests/training/config_file.h"

namespace switchyard {
namespace {

LayoutCase job_on(int64_t ranks, int64_t expert, int64_t micro_batch_size, at::ScalarType dtype) {
  LayoutCase job{.steps = 3, .dtype = dtype, .ranks = ranks, .micro_batch_size = micro_batch_size};
  job.model.moe->num_experts = 8;
  job.model.moe->capacity_factor = 1.0;
  job.model.moe->input_jitter = 0.1;
  job.model.moe->z_loss_coeff = 0.01;
  job.model.moe->shared_expert_ffn_hidden_size = 8;
  job.parallel.expert = expert;
  return job;
}

void expect_equal_to_the_bit(const LayoutTrace& a, const LayoutTrace& b, const std::string& what) {
  EXPECT_EQ(largest_difference(a, b, a.steps.size()), 0.0) << what;
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(at::equal(tensor, b.tensors.at(name))) << what << ": " << name;
}

TEST(ExecutionOfAStep, DoesNotChangeABitOfTheRun) {
  for (const auto dtype : {at::kDouble, at::kBFloat16}) {
    for (const auto& plain : {job_on(1, 1, 4, dtype), job_on(2, 2, 2, dtype), job_on(4, 2, 2, dtype)}) {
      const auto reference = train_on_threads(plain);
      for (const auto recompute : {Recompute::kMoe, Recompute::kBlock}) {
        auto job = plain;
        job.recompute = recompute;
        expect_equal_to_the_bit(reference, train_on_threads(job), "recomputed");
      }
      auto chunked = plain;
      chunked.parallel.dispatch_chunks = 3;
      chunked.parallel.overlap_shared_expert = false;
      expect_equal_to_the_bit(reference, train_on_threads(chunked), "3 chunks");
    }
  }
}

TEST(ExecutionOfAStep, DoesNotChangeABitOverAHierarchicalAllToAll) {
  auto job = job_on(4, 4, 2, at::kDouble);
  job.ranks_per_node = 2;
  job.parallel.all_to_all = AllToAllKind::kFlat;
  const auto reference = train_on_threads(job);
  job.parallel.all_to_all = AllToAllKind::kHierarchical;
  job.parallel.dispatch_chunks = 2;
  job.recompute = Recompute::kBlock;
  expect_equal_to_the_bit(reference, train_on_threads(job), "hierarchical, 2 chunks, recomputed");
}

/// The whole message; empty when the configuration is accepted.
std::string refusal(const std::vector<std::string>& overrides) {
  const ConfigFile file(kMoeConfig);
  try {
    load_run_config(file.path(), overrides, /*world_size=*/2);
    return "";
  } catch (const UserError& error) {
    return error.what();
  }
}

TEST(ExecutionKeys, AreRefusedWhereTheyWouldDoNothing) {
  EXPECT_EQ(refusal({"training.recompute=moe", "model.moe=null"}),
            "command line: training.recompute = moe has no MoE layers to compute again in a dense model; use none or block");
  EXPECT_EQ(refusal({"training.recompute=block", "model.moe=null"}), "");
  EXPECT_EQ(refusal({"parallel.dispatch_chunks=2", "model.moe=null"}),
            "command line: parallel.dispatch_chunks = 2 has no experts to send rows to in a dense model; use 1");
  EXPECT_EQ(refusal({"parallel.dispatch_chunks=4", "parallel.expert=2"}), "");
  EXPECT_TRUE(refusal({"parallel.dispatch_chunks=5", "parallel.expert=2"})
                  .starts_with("command line: parallel.dispatch_chunks = 5 is more than the experts of a rank, of which a chunk holds one "
                               "or more; use at most 4"));
}

TEST(RoutingKeys, AreRefusedInADenseModelAndWhenTheyNameOneFolder) {
  EXPECT_EQ(refusal({"routing.record=a", "routing.replay=b"}), "");
  EXPECT_EQ(refusal({"routing.record=a", "model.moe=null"}),
            "command line: routing.record = \"a\" has no routers to record in a dense model; remove it");
  EXPECT_EQ(refusal({"routing.replay=a", "model.moe=null"}),
            "command line: routing.replay = \"a\" has no routers to give choices to in a dense model; remove it");
  EXPECT_TRUE(refusal({"routing.record=a", "routing.replay=./a"})
                  .starts_with("command line: routing.record = \"a\" is the folder that routing.replay reads; name another one"));
}

}  // namespace
}  // namespace switchyard
