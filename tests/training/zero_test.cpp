// ZeRO-1, buckets and overlap do not change a bit of a run, nor of what its checkpoints give to any other layout.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/layout_run.h"
#include "tests/temporary_folder.h"

namespace switchyard {
namespace {

struct Reduction {
  const char* name;
  int64_t zero_stage, bucket_size;
  bool overlap;
  Recompute recompute = Recompute::kNone;
};

std::vector<Reduction> reductions() {
  return {
      {"odd buckets", 0, 97, false},
      {"overlap", 0, 1000, true},
      {"overlap in one bucket, blocks computed again", 0, 0, true, Recompute::kBlock},
      {"ZeRO", 1, 0, false},
      {"ZeRO in tiny buckets", 1, 61, false},
      {"ZeRO and overlap", 1, 1000, true},
      {"ZeRO and overlap, MoE layers computed again", 1, 333, true, Recompute::kMoe},
  };
}

LayoutCase job_on(int64_t ranks, int64_t expert, int64_t micro_batch_size, at::ScalarType dtype) {
  LayoutCase job{.steps = 4, .dtype = dtype, .ranks = ranks, .micro_batch_size = micro_batch_size};
  job.model.moe->num_experts = 8;
  job.model.moe->z_loss_coeff = 0.01;
  job.model.moe->shared_expert_ffn_hidden_size = 8;
  job.parallel.expert = expert;
  job.parallel.gradient_bucket_size = 0;
  return job;
}

void expect_equal_to_the_bit(const LayoutTrace& a, const LayoutTrace& b, const std::string& what) {
  EXPECT_EQ(largest_difference(a, b, a.steps.size()), 0.0) << what;
  ASSERT_EQ(a.tensors.size(), b.tensors.size()) << what;
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(at::equal(tensor, b.tensors.at(name))) << what << ": " << name;
}

class ReductionOfGradients : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(ReductionOfGradients, DoesNotChangeABitOfTheRun) {
  const auto dtype = GetParam();
  for (const auto& plain : {job_on(1, 1, 4, dtype), job_on(2, 1, 4, dtype), job_on(2, 2, 2, dtype), job_on(4, 1, 2, dtype),
                            job_on(4, 2, 1, dtype), job_on(4, 4, 2, dtype)}) {
    const auto reference = train_on_threads(plain);
    EXPECT_GT(reference.steps.front().grad_norm, 1.0) << "nothing is clipped";
    for (const auto& reduction : reductions()) {
      auto job = plain;
      job.parallel.zero_stage = reduction.zero_stage;
      job.parallel.gradient_bucket_size = reduction.bucket_size;
      job.parallel.overlap_gradient_sync = reduction.overlap;
      job.recompute = reduction.recompute;
      expect_equal_to_the_bit(
          reference, train_on_threads(job),
          c10::str(reduction.name, " on ", job.ranks, " ranks, expert ", job.parallel.expert, ", micro-batch ", job.micro_batch_size));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ReductionOfGradients, ::testing::Values(at::kDouble, at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(ZeRO, WorksWithTiedEmbeddingsChunksAndOuterRankOrder) {
  auto job = job_on(4, 2, 1, at::kBFloat16);
  job.model.tie_embeddings = true;
  job.model.qkv_bias = true;
  job.parallel.rank_order = RankOrder::kExpertOuter;
  const auto reference = train_on_threads(job);
  job.parallel.zero_stage = 1;
  job.parallel.gradient_bucket_size = 500;
  job.parallel.overlap_gradient_sync = true;
  job.parallel.dispatch_chunks = 2;
  expect_equal_to_the_bit(reference, train_on_threads(job), "tied embeddings, chunks, outer rank order");
}

TEST(ZeRO, WorksForADenseModel) {
  auto job = job_on(4, 1, 1, at::kFloat);
  job.model = tiny_config(/*moe=*/false);
  const auto reference = train_on_threads(job);
  job.parallel.zero_stage = 1;
  job.parallel.overlap_gradient_sync = true;
  expect_equal_to_the_bit(reference, train_on_threads(job), "dense");
}

/// Calls body(model, mesh) on the layout's threads, for a model with fresh weights.
template <class Body>
void on_layout(const LayoutCase& job, uint64_t seed, Body body) {
  run_ranks_as_threads(job.ranks, [&](const CommunicatorPtr& world) {
    const ProcessMesh mesh(world, job.parallel.expert, job.parallel.rank_order);
    auto model = build_model(job.model, job.parallel, mesh, at::dtype(job.dtype), seed, /*with_optimizer_state=*/true);
    body(model, mesh);
  });
}

/// Numbers that differ from place to place, also in the moments. The bf16 weights follow their master copies.
void fill_with_numbers(ParameterStore& store, const ProcessMesh& mesh) {
  const at::NoGradGuard no_grad;
  for (auto& group : store.groups()) {
    for (const auto& slot : group.slots) {
      const auto held = intersection(slot.range(), group.state);
      if (held.numel() == 0) continue;
      const auto place = at::arange(held.begin - slot.offset, held.end - slot.offset, at::kDouble) +
                         static_cast<double>(slot.order * 1000 + slot.first_expert * slot.numel);
      group.of_state(group.master, held).copy_((place * 0.37).sin());
      group.of_state(group.exp_avg, held).copy_((place * 0.73).cos());
      group.of_state(group.exp_avg_sq, held).copy_((place * 0.19).sin().square());
    }
  }
  store.refresh_weights();
  gather_weights(store, mesh);
}

std::map<std::string, at::Tensor> tensors_in(const CheckpointReader& reader, at::ScalarType dtype) {
  std::map<std::string, at::Tensor> all;
  for (const auto& [name, shape] : reader.tensors()) {
    all[name] = at::empty(shape, dtype);
    reader.read(name, shape, 0, all[name]);
  }
  return all;
}

void expect_whole_weights(ParameterStore& store, const std::map<std::string, at::Tensor>& saved) {
  for (auto& group : store.groups()) {
    for (const auto& slot : group.slots) {
      const auto whole = saved.at("model." + slot.name);
      const auto here = slot.num_experts > 0 ? whole.narrow(0, slot.first_expert, slot.shape[0]) : whole;
      EXPECT_TRUE(at::equal(ParameterGroup::view(group.weights, slot), here.to(group.weights.scalar_type()))) << slot.name;
    }
  }
}

class ZeroCheckpoint : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(ZeroCheckpoint, HoldsTheSameForEveryLayoutWithZeroAndWithout) {
  const auto dtype = GetParam();
  auto alone = job_on(1, 1, 8, dtype), four = job_on(4, 2, 2, dtype), four_zero = job_on(4, 2, 2, dtype);
  four_zero.parallel.zero_stage = 1;
  const auto stored_dtype = dtype == at::kDouble ? at::kDouble : at::kFloat;
  for (const auto& writer : {alone, four, four_zero}) {
    const TemporaryFolder folder;
    const auto save_as = [&](int64_t step, ModelInstance& model, const ProcessMesh& mesh) {
      save_checkpoint(folder.path(), step, checkpoint_pieces(model, mesh), {}, /*keep=*/9, *mesh.world());
    };
    on_layout(writer, /*seed=*/1, [&](ModelInstance& model, const ProcessMesh& mesh) {
      fill_with_numbers(*model.store, mesh);
      save_as(1, model, mesh);
    });
    const auto saved = tensors_in(CheckpointReader(folder.path() / "step-1"), stored_dtype);
    int64_t step = 1;
    for (const auto& reader : {alone, four, four_zero}) {
      ++step;
      on_layout(reader, /*seed=*/2, [&](ModelInstance& model, const ProcessMesh& mesh) {
        load_checkpoint(model, CheckpointReader(folder.path() / "step-1"));
        expect_whole_weights(*model.store, saved);
        save_as(step, model, mesh);
      });
      const auto again = tensors_in(CheckpointReader(folder.path() / ("step-" + std::to_string(step))), stored_dtype);
      ASSERT_EQ(again.size(), saved.size());
      for (const auto& [name, tensor] : saved) EXPECT_TRUE(at::equal(tensor, again.at(name))) << name << " from reader " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ZeroCheckpoint, ::testing::Values(at::kDouble, at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace switchyard
