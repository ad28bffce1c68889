#include "training/balance_objective.h"

#include <algorithm>
#include <numeric>

#include "parallel/global_sums.h"

namespace switchyard {
namespace {

constexpr const char* kLastStepTensor = "balance.last_step_sums";

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
    : terms_(balance_terms(config)), world_(std::move(world)), options_(sums), shapes_(sums_shapes(config)) {}

void BalanceObjective::start_step(const StepCounts& counts) {
  counts_ = counts;
  local_.clear();
  counting_.clear();
  step_sums_.clear();
  so_far_.clear();
  coefficients_.clear();
  tangents_.clear();
  tangent_sums_.clear();
  summed_values_.assign(terms_.size(), at::zeros({}, options_));
  for (const auto& term : terms_) {
    coefficients_.push_back(term.coefficient.at(counts.step));
    tangents_.push_back(tangent_of(term, coefficients_.back()));
  }
  for (const auto& shape : shapes_) {
    const RoutingSums sums(at::zeros({RoutingSums::size(shape)}, options_), shape);
    sums.tokens().fill_(counts.num_tokens);
    tangent_sums_[Tangent::kTokens].push_back(sums);
  }
  if (takes_any(Tangent::kLastStep)) tangent_sums_[Tangent::kLastStep] = brought_to_step(last_step_);
}

BalanceObjective::Tangent BalanceObjective::tangent_of(const BalanceTerm& term, double coefficient) const {
  if (coefficient == 0.0 || has_several_values(term.scope)) return Tangent::kNone;
  if (term.linear) return Tangent::kTokens;
  if (term.scope == AuxLossScope::kLagged && !last_step_.empty()) return Tangent::kLastStep;
  // A single micro-batch's own forward gives the step's sums.
  if (term.scope == AuxLossScope::kRunning || counts_.micro_batches_per_rank == 1) return Tangent::kSoFar;
  return Tangent::kStep;
}

bool BalanceObjective::takes_any(Tangent tangent) const {
  return std::ranges::find(tangents_, tangent) != tangents_.end();
}

bool BalanceObjective::is_lagged() const {
  return std::ranges::any_of(terms_, [](const BalanceTerm& term) { return !term.linear && term.scope == AuxLossScope::kLagged; });
}

bool BalanceObjective::needs_counting() const {
  return takes_any(Tangent::kStep);
}

void BalanceObjective::count(const std::vector<RoutingStatistics>& layers) {
  add_into(counting_, {layers.begin(), layers.end()});
}

void BalanceObjective::end_counting() {
  step_sums_ = global_sums(counting_, *world_);
  tangent_sums_[Tangent::kStep] = brought_to_step(step_sums_);
}

std::vector<RoutingSums> BalanceObjective::unpacked(const PackedLayers& layers) const {
  std::vector<RoutingSums> sums;
  for (size_t l = 0; l < layers.size(); ++l) sums.emplace_back(layers[l], shapes_[l]);
  return sums;
}

std::vector<RoutingSums> BalanceObjective::brought_to_step(const PackedLayers& sums) const {
  std::vector<RoutingSums> brought;
  for (const auto& layer : unpacked(sums)) {
    brought.emplace_back(layer.packed() * (counts_.num_tokens / layer.tokens().clamp_min(1.0)), layer.shape());
  }
  return brought;
}

at::Tensor BalanceObjective::add_micro_batch(const std::vector<RoutingStatistics>& statistics) {
  const std::vector<RoutingSums> layers(statistics.begin(), statistics.end());
  add_into(local_, layers);
  if (takes_any(Tangent::kSoFar)) {
    PackedLayers more;
    add_into(more, layers);
    add_into(so_far_, unpacked(global_sums(more, *world_)));
    tangent_sums_[Tangent::kSoFar] = brought_to_step(so_far_);
  }
  at::Tensor sum;
  for (size_t t = 0; t < terms_.size(); ++t) {
    const auto objective = objective_of(t, statistics, layers);
    if (coefficients_[t] == 0.0) continue;
    sum = sum.defined() ? sum + coefficients_[t] * objective : coefficients_[t] * objective;
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
  if (tangents_[t] == Tangent::kNone) return {};
  return surrogate(term, layers, tangent_sums_.at(tangents_[t]));
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
  PackedLayers step = takes_any(Tangent::kStep) ? step_sums_ : so_far_;
  if (!knows_step_sums()) step.assign(parts.begin() + static_cast<int64_t>(terms_.size()), parts.end());
  Outcome outcome{.layers = unpacked(step), .terms = {}};
  for (size_t t = 0; t < terms_.size(); ++t) {
    const auto& term = terms_[t];
    const double value =
        has_several_values(term.scope) ? parts[t].item<double>() / num_parts(term.scope) : term.value(outcome.layers).item<double>();
    outcome.terms.push_back({term.name, value, coefficients_[t] * value, value / term.mean_divisor});
  }
  // A step that is not finite may be skipped, and the run goes on.
  if (is_lagged() && !step.empty() && at::cat(step).isfinite().all().item<bool>()) last_step_ = step;
  return outcome;
}

std::vector<int64_t> BalanceObjective::sizes() const {
  std::vector<int64_t> sizes;
  for (const auto& shape : shapes_) sizes.push_back(RoutingSums::size(shape));
  return sizes;
}

void BalanceObjective::append_state(std::vector<TensorPiece>& pieces) const {
  if (last_step_.empty() || world_->rank() != 0) return;
  const auto flat = at::cat(last_step_).cpu().contiguous();
  pieces.push_back({kLastStepTensor, {flat.numel()}, /*begin=*/0, flat});
}

void BalanceObjective::load_state(const CheckpointReader& checkpoint) {
  if (!is_lagged() || !checkpoint.tensors().contains(kLastStepTensor)) return;
  const auto parts = sizes();
  const auto flat = at::empty({std::reduce(parts.begin(), parts.end())}, at::kDouble);
  checkpoint.read(kLastStepTensor, flat.sizes().vec(), /*begin=*/0, flat);
  last_step_ = flat.to(options_.device()).split_with_sizes(parts);
}

}  // namespace switchyard
