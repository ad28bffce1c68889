#include "training/training_step.h"

#include "core/host_copy.h"
#include "core/loss.h"
#include "core/phase_observer.h"
#include "core/shift.h"
#include "parallel/global_sums.h"

namespace switchyard {

TokenContext token_context(const Batch& batch, int64_t step, uint64_t seed, bool training) {
  return {.global_sample_B = batch.global_sample_B,
          .mask_BS = batch.mask_BS,
          .token_ids_BS = batch.inputs_BS,
          .next_ids_BS = batch.targets_BS,
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
  std::vector<at::Tensor> cross_entropies(1 + counts.num_further_targets.size(), at::zeros({}, options_));
  for (const auto& batch : micro_batches) {
    if (&batch == &micro_batches.back()) model_.gradient_sync->expect_last_backward();
    const auto more = forward_backward(batch, step, counts);
    for (size_t i = 0; i < more.size(); ++i) cross_entropies[i] = cross_entropies[i] + more[i];
  }
  enter(observer_, Phase::kGradientSync);
  model_.gradient_sync->finish();
  return finish(counts, cross_entropies);
}

TokenContext TrainingStep::context_of(const Batch& batch, int64_t step) const {
  auto context = token_context(batch, step, seed_, /*training=*/true);
  context.routing_trace = routing_trace_;
  context.observer = observer_;
  return context;
}

StepSums TrainingStep::count_targets(const std::vector<Batch>& micro_batches) const {
  const int64_t num_predictors = model_.transformer->config().mtp_layers;
  auto counts = at::zeros({2 + num_predictors}, options_);
  for (const auto& batch : micro_batches) {
    std::vector<at::Tensor> more = {batch.mask_BS.sum(), batch.mask_BS.any(1).sum()};
    for (int64_t depth = 1; depth <= num_predictors; ++depth) more.push_back(shifted(batch.mask_BS, depth).sum());
    counts += at::stack(more);
  }
  mesh_.world()->all_reduce_sum(counts)->wait();
  StepSums sums;
  const auto on_host = to_host(counts);
  sums.num_targets = on_host[0].item<double>();
  sums.num_sequences = on_host[1].item<double>();
  for (int64_t depth = 0; depth < num_predictors; ++depth) sums.num_further_targets.push_back(on_host[2 + depth].item<double>());
  return sums;
}

void TrainingStep::count_routing(const std::vector<Batch>& micro_batches, int64_t step) {
  at::NoGradGuard no_grad;
  for (const auto& batch : micro_batches) balance_.count(model_.transformer->forward(context_of(batch, step)).statistics);
  balance_.end_counting();
}

std::vector<at::Tensor> TrainingStep::forward_backward(const Batch& batch, int64_t step, const StepSums& counts) {
  enter(observer_, Phase::kForward);
  const auto output = model_.transformer->forward(context_of(batch, step));
  std::vector<at::Tensor> cross_entropies = {cross_entropy_of(output.hidden_BSD, batch.targets_BS, batch.mask_BS)};
  auto objective = cross_entropies[0] / counts.num_targets;
  if (const auto further = further_objective(output, batch, counts, cross_entropies); further.defined()) objective = objective + further;
  enter(observer_, Phase::kForward);
  if (const auto balance = balance_.add_micro_batch(output.statistics); balance.defined()) objective = objective + balance;
  enter_backward(observer_, Phase::kLoss);
  objective.backward();
  for (auto& cross_entropy : cross_entropies) cross_entropy = cross_entropy.detach();
  return cross_entropies;
}

at::Tensor TrainingStep::cross_entropy_of(const at::Tensor& hidden_BSD, const at::Tensor& target_BS, const at::Tensor& mask_BS) {
  return linear_cross_entropy_sum(hidden_BSD.flatten(0, 1), model_.transformer->output_weight(), target_BS.flatten(), mask_BS.flatten());
}

at::Tensor TrainingStep::further_objective(const TransformerOutput& output, const Batch& batch, const StepSums& counts,
                                           std::vector<at::Tensor>& cross_entropies) {
  at::Tensor sum;
  for (size_t i = 0; i < output.further_BSD.size(); ++i) {
    const auto depth = static_cast<int64_t>(i) + 1;
    cross_entropies.push_back(cross_entropy_of(output.further_BSD[i], shifted(batch.targets_BS, depth), shifted(batch.mask_BS, depth)));
    const auto mean = cross_entropies.back() / std::max(counts.num_further_targets[i], 1.0);
    sum = sum.defined() ? sum + mean : mean;
  }
  const auto& config = model_.transformer->config();
  return sum.defined() ? sum * (config.mtp_loss_coeff / static_cast<double>(config.mtp_layers)) : sum;
}

StepResult TrainingStep::finish(StepSums sums, const std::vector<at::Tensor>& cross_entropies) {
  auto parts = balance_.local_parts();
  const size_t num_balance_parts = parts.size();
  parts.insert(parts.end(), cross_entropies.begin(), cross_entropies.end());
  auto total = global_sums(parts, *mesh_.world());
  sums.cross_entropy_sum = total[num_balance_parts].item<double>();
  for (size_t i = num_balance_parts + 1; i < total.size(); ++i) sums.further_cross_entropy_sums.push_back(total[i].item<double>());
  total.resize(num_balance_parts);
  auto [layers, terms] = balance_.finish(total);
  sums.layers = std::move(layers);
  StepResult result{.sums = std::move(sums), .terms = std::move(terms), .loss = 0.0};
  if (!result.sums.num_further_targets.empty()) result.terms.push_back(further_term(result.sums));
  result.loss = result.sums.cross_entropy();
  for (const auto& term : result.terms) result.loss += term.weighted;
  return result;
}

TermValue TrainingStep::further_term(const StepSums& sums) const {
  double mean = 0.0;
  for (size_t i = 0; i < sums.num_further_targets.size(); ++i) {
    mean += sums.further_cross_entropy_sums[i] / std::max(sums.num_further_targets[i], 1.0);
  }
  mean /= static_cast<double>(sums.num_further_targets.size());
  return {"mtp_loss", mean, model_.transformer->config().mtp_loss_coeff * mean, mean};
}

}  // namespace switchyard
