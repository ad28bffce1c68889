// Masked tokens take no part in anything: not in statistics, capacity, losses, counts or gradients.
#include <gtest/gtest.h>

#include "tests/layout_run.h"

namespace switchyard {
namespace {

constexpr int64_t kMasked = 3, kUnmasked = 5;  // of the 8 positions of every sequence

LayoutCase job_in(AuxLossScope scope, int64_t capacity_sequences) {
  LayoutCase job;
  auto& moe = *job.model.moe;
  moe.aux_loss_scope = moe.importance_loss_scope = scope;
  moe.importance_loss_coeff = 0.1;
  moe.z_loss_coeff = 0.01;
  moe.input_jitter = 0.1;
  moe.capacity_factor = 0.8;
  moe.capacity_group.sequences = capacity_sequences;
  moe.shared_expert_ffn_hidden_size = 8;
  return job;
}

struct StepOutcome {
  StepResult result;
  double grad_norm = 0.0;
  std::vector<at::Tensor> gradients;
};

/// A step of two micro-batches on one rank. change: what is done to every batch first.
StepOutcome step_with(const LayoutCase& job, const std::function<void(Batch&)>& change) {
  const ProcessMesh mesh(make_single_communicator(), /*expert_degree=*/1);
  auto model = build_model(job.model, job.parallel, mesh, at::dtype(job.dtype), /*seed=*/3, /*with_optimizer_state=*/true);
  TrainingStep training_step(model, mesh, /*seed=*/3);
  std::vector<Batch> batches = {made_up_batch(job, 1, 0, 4), made_up_batch(job, 1, 4, 4)};
  for (auto& batch : batches) change(batch);
  StepOutcome outcome{.result = training_step.run(batches, 1), .grad_norm = gradient_norm(*model.store, mesh), .gradients = {}};
  for (const auto& group : model.store->groups()) outcome.gradients.push_back(group.gradients.clone());
  return outcome;
}

void mask_tails(Batch& batch) {
  batch.mask_BS.narrow(1, kUnmasked, kMasked).fill_(false);
}

void mask_tails_and_change_what_is_masked(Batch& batch) {
  mask_tails(batch);
  for (auto* ids_BS : {&batch.inputs_BS, &batch.targets_BS}) {
    auto tail = ids_BS->narrow(1, kUnmasked, kMasked);
    tail.copy_((tail * 7 + 11).remainder(29));
  }
}

void cut_tails(Batch& batch) {
  for (auto* tensor_BS : {&batch.inputs_BS, &batch.targets_BS, &batch.mask_BS})
    *tensor_BS = tensor_BS->narrow(1, 0, kUnmasked).contiguous();
}

std::vector<LayoutCase> all_jobs() {
  std::vector<LayoutCase> jobs;
  for (const auto scope : {AuxLossScope::kSequence, AuxLossScope::kMicroBatch, AuxLossScope::kGlobalBatch, AuxLossScope::kRunning}) {
    for (const int64_t sequences : {1, 2, 0}) jobs.push_back(job_in(scope, sequences));
  }
  return jobs;
}

TEST(MaskedTokens, CanBeAnyTokensWithoutABitOfDifference) {
  for (const auto& job : all_jobs()) {
    const auto before = step_with(job, mask_tails), after = step_with(job, mask_tails_and_change_what_is_masked);
    const auto x = trace_of(before.result, before.grad_norm), y = trace_of(after.result, after.grad_norm);
    EXPECT_EQ(x.loss, y.loss);
    EXPECT_EQ(x.terms, y.terms);
    EXPECT_EQ(x.routing, y.routing);
    for (size_t i = 0; i < before.gradients.size(); ++i) EXPECT_TRUE(at::equal(before.gradients[i], after.gradients[i]));
  }
}

TEST(MaskedTokens, CountAsIfTheSequencesEndedBeforeThem) {
  for (const auto& job : all_jobs()) {
    const auto masked = step_with(job, mask_tails), cut = step_with(job, cut_tails);
    const LayoutTrace x{{trace_of(masked.result, masked.grad_norm)}, {}}, y{{trace_of(cut.result, cut.grad_norm)}, {}};
    EXPECT_LT(largest_difference(x, y, 1), 1e-12);
    EXPECT_EQ(masked.result.sums.num_targets, 8.0 * kUnmasked);
    double dropped = 0.0;
    for (const auto& layer : masked.result.sums.layers) {
      dropped += layer.dropped_E().sum().item<double>();
      EXPECT_EQ(layer.tokens().item<double>(), 8.0 * kUnmasked);
      EXPECT_EQ(layer.assigned_E().sum().item<double>(), 2 * 8.0 * kUnmasked);
    }
    EXPECT_GT(dropped, 0.0) << "the capacity is never reached";
    for (size_t i = 0; i < masked.gradients.size(); ++i) {
      EXPECT_LT((masked.gradients[i] - cut.gradients[i]).norm().item<double>(), 1e-12 * cut.gradients[i].norm().item<double>());
    }
  }
}

}  // namespace
}  // namespace switchyard
