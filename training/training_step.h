// One step's mathematics, from a global batch to gradients: forward, losses over the whole batch, backward, gradient sums.
#pragma once

#include <vector>

#include "core/balance.h"
#include "parallel/process_mesh.h"
#include "training/model_instance.h"
#include "training/token_data.h"

namespace switchyard {

/// What a step added up over all ranks and micro-batches; every rank holds the same.
struct StepSums {
  double cross_entropy_sum = 0.0;  ///< nats
  double num_targets = 0.0;
  double num_sequences = 0.0;
  std::vector<RoutingSums> layers;  ///< one a MoE layer

  double cross_entropy() const { return cross_entropy_sum / num_targets; }
};

/// A balancing term's value over its scope: what its coefficient multiplies in the objective.
struct TermValue {
  std::string name;
  double value = 0.0;
  double weighted = 0.0;  ///< coefficient x value, its part of the loss
  double mean = 0.0;      ///< value / number of MoE layers, as metrics show it
};

struct StepResult {
  StepSums sums;
  std::vector<TermValue> terms;
  double loss = 0.0;  ///< cross entropy + all weighted terms
};

/// The context of a micro-batch's forward.
TokenContext token_context(const Batch& batch, int64_t step, uint64_t seed, bool training);

/// The batch on the model's device.
Batch to_device(Batch batch, at::Device device);

class TrainingStep {
 public:
  TrainingStep(ModelInstance& model, const ProcessMesh& mesh, uint64_t seed);

  /// Zeroes the gradients, runs this rank's micro-batches forward and backward, and leaves the summed gradients in the store's flat
  /// buffers (with ZeRO-1: those of this rank's part). Where a balancing term over the global batch is not linear in its sums and there are
  /// several micro-batches, their forwards run once more without gradients, to know the sums before the first backward. Collective.
  StepResult run(const std::vector<Batch>& micro_batches, int64_t step);

  /// From now on the routers' choices go through `trace`; null = through none.
  void trace_routing(std::shared_ptr<RoutingTrace> trace) { routing_trace_ = std::move(trace); }

  /// True when run() makes that extra forward; the log says so.
  bool needs_counting_forward(size_t num_micro_batches) const;

 private:
  /// Added up over the micro-batches of this rank while a step is under way.
  struct LocalSums {
    at::Tensor cross_entropy;
    std::vector<at::Tensor> layers;           ///< packed RoutingSums
    std::vector<at::Tensor> sequence_values;  ///< by term: its sum over sequences, for scope `sequence`
  };
  /// The scope's sums that surrogates are taken at. `exact`: all sums, else only those that linear terms look at.
  struct ScopeSums {
    std::vector<RoutingSums> layers;
    bool exact = false;
  };

  TokenContext context_of(const Batch& batch, int64_t step) const;
  StepSums count_targets(const std::vector<Batch>& micro_batches) const;
  ScopeSums scope_before_forward(const std::vector<Batch>& micro_batches, int64_t step, const StepSums& counts);
  void forward_backward(const Batch& batch, int64_t step, const StepSums& counts, ScopeSums& scope, LocalSums& local);
  at::Tensor term_objective(size_t term, const std::vector<RoutingStatistics>& statistics, const std::vector<RoutingSums>& layers,
                            const ScopeSums& scope, const StepSums& counts, LocalSums& local) const;
  StepResult finish(StepSums sums, const ScopeSums& scope, const LocalSums& local) const;

  ModelInstance& model_;
  const ProcessMesh& mesh_;
  uint64_t seed_;
  std::shared_ptr<RoutingTrace> routing_trace_;
  std::vector<BalanceTerm> terms_;
  at::TensorOptions options_;  ///< of sums: float64 on the model's device
};

}  // namespace switchyard
