#include "training/training_step.h"

#include "core/host_copy.h"
#include "core/loss.h"
#include "parallel/global_sums.h"

namespace switchyard {
namespace {

std::vector<at::Tensor> packed(const std::vector<RoutingSums>& layers) {
  std::vector<at::Tensor> all;
  for (const auto& layer : layers) all.push_back(layer.packed().detach());
  return all;
}

std::vector<RoutingSums> unpacked(const std::vector<at::Tensor>& all, int64_t num_experts) {
  std::vector<RoutingSums> layers;
  for (const auto& tensor : all) layers.emplace_back(tensor, num_experts);
  return layers;
}

void add_into(std::vector<at::Tensor>& sums, const std::vector<at::Tensor>& more) {
  if (sums.empty()) {
    sums = more;
    return;
  }
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = sums[i] + more[i];
}

std::vector<RoutingSums> local_sums(const std::vector<RoutingStatistics>& statistics) {
  std::vector<RoutingSums> layers;
  for (const auto& layer : statistics) layers.emplace_back(layer);
  return layers;
}

}  // namespace

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
  for (auto* tensor : {&batch.inputs_BS, &batch.targets_BS, &batch.mask_BS, &batch.global_sample_B, &batch.domain_B})
    *tensor = to_device(*tensor, device);
  return batch;
}

TrainingStep::TrainingStep(ModelInstance& model, const ProcessMesh& mesh, uint64_t seed)
    : model_(model),
      mesh_(mesh),
      seed_(seed),
      terms_(balance_terms(model.transformer->config())),
      options_(at::dtype(at::kDouble).device(model.store->device())) {}

bool TrainingStep::needs_counting_forward(size_t num_micro_batches) const {
  if (num_micro_batches <= 1) return false;
  for (const auto& term : terms_) {
    if (term.coefficient != 0.0 && term.scope == AuxLossScope::kGlobalBatch && !term.linear) return true;
  }
  return false;
}

StepResult TrainingStep::run(const std::vector<Batch>& micro_batches, int64_t step) {
  const auto counts = count_targets(micro_batches);
  const auto zero = at::zeros({}, options_);
  LocalSums local{zero, {}, std::vector<at::Tensor>(terms_.size(), zero)};
  model_.store->zero_gradients();
  auto scope = scope_before_forward(micro_batches, step, counts);
  for (const auto& batch : micro_batches) {
    if (&batch == &micro_batches.back()) model_.gradient_sync->expect_last_backward();
    forward_backward(batch, step, counts, scope, local);
  }
  model_.gradient_sync->finish();
  return finish(counts, scope, local);
}

TokenContext TrainingStep::context_of(const Batch& batch, int64_t step) const {
  auto context = token_context(batch, step, seed_, /*training=*/true);
  context.routing_trace = routing_trace_;
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

TrainingStep::ScopeSums TrainingStep::scope_before_forward(const std::vector<Batch>& micro_batches, int64_t step, const StepSums& counts) {
  if (terms_.empty() || micro_batches.size() == 1) return {};  // one micro-batch: its own forward gives the sums
  const auto& config = model_.transformer->config();
  const int64_t E = config.moe->num_experts;
  if (!needs_counting_forward(micro_batches.size())) {
    const auto tokens_only = at::zeros({RoutingSums::size(E)}, options_);
    RoutingSums(tokens_only, E).tokens().fill_(counts.num_targets);
    return {std::vector<RoutingSums>(static_cast<size_t>(config.num_moe_layers()), RoutingSums(tokens_only, E)), /*exact=*/false};
  }
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> sums;
  for (const auto& batch : micro_batches) {
    add_into(sums, packed(local_sums(model_.transformer->forward(context_of(batch, step)).statistics)));
  }
  return {unpacked(global_sums(sums, *mesh_.world()), E), /*exact=*/true};
}

void TrainingStep::forward_backward(const Batch& batch, int64_t step, const StepSums& counts, ScopeSums& scope, LocalSums& local) {
  const auto output = model_.transformer->forward(context_of(batch, step));
  const auto logits_TV = model_.transformer->logits(output.hidden_BSD).flatten(0, 1);
  const auto cross_entropy = cross_entropy_sum(logits_TV, batch.targets_BS.flatten(), batch.mask_BS.flatten());
  const auto layers = local_sums(output.statistics);
  local.cross_entropy = local.cross_entropy + cross_entropy.detach();
  add_into(local.layers, packed(layers));
  if (!terms_.empty() && scope.layers.empty()) {
    scope = {unpacked(global_sums(packed(layers), *mesh_.world()), layers.front().num_experts()), /*exact=*/true};
  }
  auto objective = cross_entropy / counts.num_targets;
  for (size_t t = 0; t < terms_.size(); ++t) {
    objective = objective + terms_[t].coefficient * term_objective(t, output.statistics, layers, scope, counts, local);
  }
  objective.backward();
}

at::Tensor TrainingStep::term_objective(size_t term, const std::vector<RoutingStatistics>& statistics,
                                        const std::vector<RoutingSums>& layers, const ScopeSums& scope, const StepSums& counts,
                                        LocalSums& local) const {
  if (terms_[term].scope == AuxLossScope::kGlobalBatch) return surrogate(terms_[term], layers, scope.layers);
  const auto sum = sum_over_sequences(terms_[term], statistics);
  local.sequence_values[term] = local.sequence_values[term] + sum.detach();
  return sum / counts.num_sequences;
}

StepResult TrainingStep::finish(StepSums sums, const ScopeSums& scope, const LocalSums& local) const {
  std::vector<at::Tensor> parts = {local.cross_entropy};
  parts.insert(parts.end(), local.sequence_values.begin(), local.sequence_values.end());
  if (!scope.exact) parts.insert(parts.end(), local.layers.begin(), local.layers.end());
  const auto total = global_sums(parts, *mesh_.world());

  sums.cross_entropy_sum = total[0].item<double>();
  sums.layers = scope.layers;
  if (!scope.exact && !terms_.empty()) {
    const std::vector<at::Tensor> layers(total.begin() + 1 + static_cast<int64_t>(terms_.size()), total.end());
    sums.layers = unpacked(layers, scope.layers.front().num_experts());
  }
  StepResult result{.sums = sums, .terms = {}, .loss = sums.cross_entropy()};
  for (size_t t = 0; t < terms_.size(); ++t) {
    const bool by_sequence = terms_[t].scope == AuxLossScope::kSequence;
    const double value = by_sequence ? total[1 + t].item<double>() / sums.num_sequences : terms_[t].value(sums.layers).item<double>();
    result.terms.push_back({terms_[t].name, value, terms_[t].coefficient * value, value / terms_[t].mean_divisor});
    result.loss += result.terms.back().weighted;
  }
  return result;
}

}  // namespace switchyard
