// The balancing part of a step's objective: every term over its scope, micro-batch by micro-batch.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/balance.h"
#include "parallel/communicator.h"
#include "training/checkpoint.h"

namespace switchyard {

/// A balancing term's value over its scope: what its coefficient multiplies in the objective.
struct TermValue {
  std::string name;
  double value = 0.0;
  double weighted = 0.0;  ///< coefficient x value, its part of the loss
  double mean = 0.0;      ///< value / number of MoE layers, as metrics show it
};

/// What a step's global batch consists of, and how many micro-batches of it each rank computes.
struct StepCounts {
  int64_t step = 1;            ///< at which coefficients are taken
  double num_tokens = 0.0;     ///< unmasked
  double num_sequences = 0.0;  ///< with a token
  int64_t micro_batches_per_rank = 1;
};

/// A term's objective and gradient by its scope (AuxLossScope), S being sums over tokens:
///   sequence      mean over the sequences of value(S of the sequence)
///   micro_batch   mean over the micro-batches of all ranks of value(S of the micro-batch)
///   global_batch  value(S of the step), exact; with several micro-batches a rank they are counted in a forward of their own first
///   running       micro-batch m has the gradient of the value at the mean over the micro-batches 0 ... m of all ranks
///   lagged        every micro-batch has the gradient of the value at the means of the step before; a run's first step, before which there
///                 is none, is counted as global_batch
/// The last two report the value at the sums of the whole step. Their means are brought to the step's number of tokens, so that a term
/// which is linear in its sums (z_loss) is exact.
///
/// Each step: start_step(); if needs_counting(): count() for every micro-batch, then end_counting(); add_micro_batch() for every
/// micro-batch; finish() with the global sums of local_parts().
class BalanceObjective {
 public:
  /// world: all ranks. sums: options of sums, float64 on the model's device.
  BalanceObjective(const ModelConfig& config, CommunicatorPtr world, const at::TensorOptions& sums);

  void start_step(const StepCounts& counts);

  /// True where the first backward needs sums that only a forward of all micro-batches can tell.
  bool needs_counting() const;
  void count(const std::vector<RoutingStatistics>& layers);
  /// Collective.
  void end_counting();

  /// A differentiable scalar whose gradients, summed over micro-batches and ranks, are those of sum(coefficient x term); undefined where
  /// no term has a coefficient. Its own value means nothing. Collective where needs_counting() is false and the scope spans ranks.
  at::Tensor add_micro_batch(const std::vector<RoutingStatistics>& layers);

  /// What finish() needs summed over all ranks, float64.
  std::vector<at::Tensor> local_parts() const;

  struct Outcome {
    std::vector<RoutingSums> layers;  ///< sums over the step, one a MoE layer
    std::vector<TermValue> terms;
  };
  /// `parts`: local_parts(), summed over all ranks. The same on every rank.
  Outcome finish(const std::vector<at::Tensor>& parts);

  /// What scope `lagged` remembers, as pieces for a checkpoint: the lead rank's, of any layout; none elsewhere, and none before there is a
  /// step with finite sums.
  void append_state(std::vector<TensorPiece>& pieces) const;
  void load_state(const CheckpointReader& checkpoint);

 private:
  using PackedLayers = std::vector<at::Tensor>;  ///< RoutingSums::packed() of each MoE layer, without gradients
  /// The sums at which a term takes its gradient: none (its scope is a part of the batch, or it has no coefficient), the step's tokens
  /// alone, the whole step's, those of the step so far, the last step's.
  enum class Tangent { kNone, kTokens, kStep, kSoFar, kLastStep };

  Tangent tangent_of(const BalanceTerm& term, double coefficient) const;
  bool takes_any(Tangent tangent) const;
  bool knows_step_sums() const { return takes_any(Tangent::kStep) || takes_any(Tangent::kSoFar); }
  bool is_lagged() const;
  std::vector<RoutingSums> unpacked(const PackedLayers& layers) const;
  /// The sums brought to the step's number of tokens.
  std::vector<RoutingSums> brought_to_step(const PackedLayers& sums) const;
  at::Tensor objective_of(size_t term, const std::vector<RoutingStatistics>& statistics, const std::vector<RoutingSums>& layers);
  double num_parts(AuxLossScope scope) const;
  std::vector<int64_t> sizes() const;

  std::vector<BalanceTerm> terms_;
  CommunicatorPtr world_;
  at::TensorOptions options_;
  std::vector<SumsShape> shapes_;  ///< of each MoE layer
  PackedLayers last_step_;         ///< global sums of the step before, with scope `lagged`

  // The step under way:
  StepCounts counts_;
  std::vector<double> coefficients_;  ///< by term
  std::vector<Tangent> tangents_;     ///< by term
  std::map<Tangent, std::vector<RoutingSums>> tangent_sums_;
  PackedLayers counting_;                  ///< this rank's micro-batches, counted before the first backward
  PackedLayers step_sums_;                 ///< all ranks', the whole step's: where they are counted first
  PackedLayers so_far_;                    ///< all ranks', of the micro-batches so far: where a term asks for it
  PackedLayers local_;                     ///< this rank's micro-batches so far
  std::vector<at::Tensor> summed_values_;  ///< by term: this rank's values added up, where the scope has several
};

}  // namespace switchyard
