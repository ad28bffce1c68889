#include "training/training_step.h"

#include "core/host_copy.h"
#include "core/loss.h"
#include "core/phase_observer.h"
#include "parallel/global_sums.h"

namespace switchyard {

TokenContext token_context(const Batch& batch, int64_t step, uint64_t seed, bool training) {
  return {.global_sample_B = batch.global_sample_B,
          .mask_BS = batch.mask_BS,
          .token_ids_BS = batch.inputs_BS,
          .domain_B = batch.domain_B,
          .document_BS = batch.document_BS,
          .position_BS = batch.position_BS,
          .step = step,
          .layer = 0,
          .training = training,
          .seed = seed,
          .routing_trace = {}};
}

Batch to_device(Batch batch, at::Device device) {
  for (auto* tensor : {&batch.inputs_BS, &batch.targets_BS, &batch.mask_BS, &batch.global_sample_B, &batch.domain_B, &batch.document_BS,
                       &batch.position_BS}) {
    if (tensor->defined()) *tensor = to_device(*tensor, device);
  }
  return batch;
}

std::vector<int64_t> first_samples(int64_t global_batch_size, int64_t micro_batch_size, const Communicator& world) {
  std::vector<int64_t> first;
  const int64_t round = micro_batch_size * world.size();
  for (int64_t begin = 0; begin + round <= global_batch_size; begin += round) first.push_back(begin + world.rank() * micro_batch_size);
  return first;
}

TrainingStep::TrainingStep(ModelInstance& model, const ProcessMesh& mesh, uint64_t seed)
    : model_(model),
      mesh_(mesh),
      seed_(seed),
      options_(at::dtype(at::kDouble).device(model.store->device())),
      balance_(model.transformer->config(), mesh.world(), options_) {}

StepResult TrainingStep::run(const std::vector<Batch>& micro_batches, int64_t step) {
  enter(observer_, Phase::kForward);
  const auto counts = count_targets(micro_batches);
  model_.store->zero_gradients();
  balance_.start_step({step, counts.num_targets, counts.num_sequences, static_cast<int64_t>(micro_batches.size())});
  if (balance_.needs_counting()) count_routing(micro_batches, step);
  auto cross_entropy = at::zeros({}, options_);
  for (const auto& batch : micro_batches) {
    if (&batch == &micro_batches.back()) model_.gradient_sync->expect_last_backward();
    cross_entropy = cross_entropy + forward_backward(batch, step, counts.num_targets);
  }
  enter(observer_, Phase::kGradientSync);
  model_.gradient_sync->finish();
  return finish(counts, cross_entropy);
}

TokenContext TrainingStep::context_of(const Batch& batch, int64_t step) const {
  auto context = token_context(batch, step, seed_, /*training=*/true);
  context.routing_trace = routing_trace_;
  context.observer = observer_;
  return context;
}

StepSums TrainingStep::count_targets(const std::vector<Batch>& micro_batches) const {
  auto counts = at::zeros({2}, options_);
  for (const auto& batch : micro_batches) counts += at::stack({batch.mask_BS.sum(), batch.mask_BS.any(1).sum()});
  mesh_.world()->all_reduce_sum(counts)->wait();
  StepSums sums;
  const auto on_host = to_host(counts);
  sums.num_targets = on_host[0].item<double>();
  sums.num_sequences = on_host[1].item<double>();
  return sums;
}

void TrainingStep::count_routing(const std::vector<Batch>& micro_batches, int64_t step) {
  at::NoGradGuard no_grad;
  for (const auto& batch : micro_batches) balance_.count(model_.transformer->forward(context_of(batch, step)).statistics);
  balance_.end_counting();
}

at::Tensor TrainingStep::forward_backward(const Batch& batch, int64_t step, double num_targets) {
  enter(observer_, Phase::kForward);
  const auto output = model_.transformer->forward(context_of(batch, step));
  const auto logits_TV = model_.transformer->logits(output.hidden_BSD).flatten(0, 1);
  const auto cross_entropy = cross_entropy_sum(logits_TV, batch.targets_BS.flatten(), batch.mask_BS.flatten());
  auto objective = cross_entropy / num_targets;
  if (const auto balance = balance_.add_micro_batch(output.statistics); balance.defined()) objective = objective + balance;
  enter(observer_, Phase::kBackward);
  objective.backward();
  return cross_entropy.detach();
}

StepResult TrainingStep::finish(StepSums sums, const at::Tensor& cross_entropy) {
  auto parts = balance_.local_parts();
  parts.push_back(cross_entropy);
  auto total = global_sums(parts, *mesh_.world());
  sums.cross_entropy_sum = total.back().item<double>();
  total.pop_back();
  auto [layers, terms] = balance_.finish(total);
  sums.layers = std::move(layers);
  StepResult result{.sums = std::move(sums), .terms = std::move(terms), .loss = 0.0};
  result.loss = result.sums.cross_entropy();
  for (const auto& term : result.terms) result.loss += term.weighted;
  return result;
}

}  // namespace switchyard
