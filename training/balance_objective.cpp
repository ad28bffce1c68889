#include "training/balance_objective.h"

#include "parallel/global_sums.h"

namespace switchyard {
namespace {

constexpr const char* kLastStepTensor = "balance.last_step_sums";

std::vector<RoutingSums> unpacked(const std::vector<at::Tensor>& packed, int64_t num_experts) {
  std::vector<RoutingSums> layers;
  for (const auto& layer : packed) layers.emplace_back(layer, num_experts);
  return layers;
}

void add_into(std::vector<at::Tensor>& sums, const std::vector<RoutingSums>& layers) {
  const bool is_first = sums.empty();
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto more = layers[l].packed().detach();
    if (is_first) {
      sums.push_back(more);
    } else {
      sums[l] = sums[l] + more;
    }
  }
}

bool has_several_values(AuxLossScope scope) {
  return scope == AuxLossScope::kSequence || scope == AuxLossScope::kMicroBatch;
}

}  // namespace

BalanceObjective::BalanceObjective(const ModelConfig& config, CommunicatorPtr world, const at::TensorOptions& sums)
    : terms_(balance_terms(config)), world_(std::move(world)), options_(sums) {
  if (!config.moe) return;
  num_experts_ = config.moe->num_experts;
  num_layers_ = config.num_moe_layers();
  scope_ = config.moe->aux_loss_scope;
  for (const auto& term : terms_) scope_matters_ = scope_matters_ || (!term.linear && term.coefficient != 0.0);
}

void BalanceObjective::start_step(const StepCounts& counts) {
  counts_ = counts;
  tangent_ = choose_tangent();
  local_.clear();
  global_.clear();
  summed_values_.assign(terms_.size(), at::zeros({}, options_));
  if (terms_.empty()) return;
  const RoutingSums sums(at::zeros({RoutingSums::size(num_experts_)}, options_), num_experts_);
  sums.tokens().fill_(counts.num_tokens);
  tokens_only_.assign(static_cast<size_t>(num_layers_), sums);
  if (tangent_ == Tangent::kLastStep) take_gradients_at(last_step_);
}

BalanceObjective::Tangent BalanceObjective::choose_tangent() const {
  if (!scope_matters_ || has_several_values(scope_)) return Tangent::kNone;
  if (scope_ == AuxLossScope::kLagged && !last_step_.empty()) return Tangent::kLastStep;
  // A single micro-batch's own forward gives the step's sums.
  if (scope_ == AuxLossScope::kRunning || counts_.micro_batches_per_rank == 1) return Tangent::kSoFar;
  return Tangent::kStep;
}

bool BalanceObjective::needs_counting() const {
  return tangent_ == Tangent::kStep;
}

void BalanceObjective::count(const std::vector<RoutingStatistics>& layers) {
  add_into(global_, {layers.begin(), layers.end()});
}

void BalanceObjective::end_counting() {
  global_ = global_sums(global_, *world_);
  take_gradients_at(global_);
}

void BalanceObjective::take_gradients_at(const PackedLayers& sums) {
  tangent_sums_.clear();
  for (const auto& layer : unpacked(sums, num_experts_)) {
    tangent_sums_.emplace_back(layer.packed() * (counts_.num_tokens / layer.tokens().clamp_min(1.0)), num_experts_);
  }
}

at::Tensor BalanceObjective::add_micro_batch(const std::vector<RoutingStatistics>& statistics) {
  const std::vector<RoutingSums> layers(statistics.begin(), statistics.end());
  add_into(local_, layers);
  if (tangent_ == Tangent::kSoFar) {
    PackedLayers more;
    add_into(more, layers);
    add_into(global_, unpacked(global_sums(more, *world_), num_experts_));
    take_gradients_at(global_);
  }
  at::Tensor sum;
  for (size_t t = 0; t < terms_.size(); ++t) {
    const auto objective = objective_of(t, statistics, layers);
    if (terms_[t].coefficient == 0.0) continue;
    sum = sum.defined() ? sum + terms_[t].coefficient * objective : terms_[t].coefficient * objective;
  }
  return sum;
}

at::Tensor BalanceObjective::objective_of(size_t t, const std::vector<RoutingStatistics>& statistics,
                                          const std::vector<RoutingSums>& layers) {
  const auto& term = terms_[t];
  if (has_several_values(term.scope)) {
    const auto values = term.scope == AuxLossScope::kSequence ? sum_over_sequences(term, statistics) : term.value(layers);
    summed_values_[t] = summed_values_[t] + values.detach();
    return values / num_parts(term.scope);
  }
  if (term.coefficient == 0.0) return {};
  return surrogate(term, layers, term.linear ? tokens_only_ : tangent_sums_);
}

double BalanceObjective::num_parts(AuxLossScope scope) const {
  if (scope == AuxLossScope::kSequence) return counts_.num_sequences;
  return static_cast<double>(counts_.micro_batches_per_rank * world_->size());
}

std::vector<at::Tensor> BalanceObjective::local_parts() const {
  auto parts = summed_values_;
  if (!knows_step_sums()) parts.insert(parts.end(), local_.begin(), local_.end());
  return parts;
}

BalanceObjective::Outcome BalanceObjective::finish(const std::vector<at::Tensor>& parts) {
  if (!knows_step_sums()) global_.assign(parts.begin() + static_cast<int64_t>(terms_.size()), parts.end());
  Outcome outcome{.layers = unpacked(global_, num_experts_), .terms = {}};
  for (size_t t = 0; t < terms_.size(); ++t) {
    const auto& term = terms_[t];
    const double value =
        has_several_values(term.scope) ? parts[t].item<double>() / num_parts(term.scope) : term.value(outcome.layers).item<double>();
    outcome.terms.push_back({term.name, value, term.coefficient * value, value / term.mean_divisor});
  }
  // A step that is not finite may be skipped, and the run goes on.
  const bool remembers = scope_ == AuxLossScope::kLagged && !global_.empty();
  if (remembers && at::stack(global_).isfinite().all().item<bool>()) last_step_ = global_;
  return outcome;
}

void BalanceObjective::append_state(std::vector<TensorPiece>& pieces) const {
  if (last_step_.empty() || world_->rank() != 0) return;
  pieces.push_back(
      {kLastStepTensor, {num_layers_, RoutingSums::size(num_experts_)}, /*begin=*/0, at::stack(last_step_).cpu().contiguous()});
}

void BalanceObjective::load_state(const CheckpointReader& checkpoint) {
  if (scope_ != AuxLossScope::kLagged || !checkpoint.tensors().contains(kLastStepTensor)) return;
  const std::vector<int64_t> shape = {num_layers_, RoutingSums::size(num_experts_)};
  const auto sums = at::empty(shape, at::kDouble);
  checkpoint.read(kLastStepTensor, shape, /*begin=*/0, sums);
  last_step_ = sums.to(options_.device()).unbind(0);
}

}  // namespace switchyard
