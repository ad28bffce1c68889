// One step's mathematics, from a global batch to gradients: forward, losses over the whole batch, backward, gradient sums.
#pragma once

#include <vector>

#include "parallel/process_mesh.h"
#include "training/balance_objective.h"
#include "training/model_instance.h"
#include "training/token_data.h"

namespace switchyard {

/// What a step added up over all ranks and micro-batches; every rank holds the same.
struct StepSums {
  double cross_entropy_sum = 0.0;  ///< nats
  double num_targets = 0.0;
  double num_sequences = 0.0;
  std::vector<double> further_cross_entropy_sums;  ///< nats, one a prediction block
  std::vector<double> num_further_targets;
  std::vector<RoutingSums> layers;  ///< one a MoE layer

  double cross_entropy() const { return cross_entropy_sum / num_targets; }
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

/// The first global samples of a rank's micro-batches. Those of all ranks, in the order of ranks, are consecutive, and so is the next round
/// of them.
std::vector<int64_t> first_samples(int64_t global_batch_size, int64_t micro_batch_size, const Communicator& world);

class TrainingStep {
 public:
  TrainingStep(ModelInstance& model, const ProcessMesh& mesh, uint64_t seed);

  /// Zeroes the gradients, runs this rank's micro-batches forward and backward, and leaves the summed gradients in the store's flat
  /// buffers (with ZeRO-1: those of this rank's part). Where a balancing term needs the sums of several micro-batches before the first
  /// backward, their forwards run once more without gradients. Collective.
  StepResult run(const std::vector<Batch>& micro_batches, int64_t step);

  /// From now on the routers' choices go through `trace`; null = through none.
  void trace_routing(std::shared_ptr<RoutingTrace> trace) { routing_trace_ = std::move(trace); }

  /// From now on `observer` is told which phase a step is in; null = nobody is.
  void observe(PhaseObserver* observer) { observer_ = observer; }

  /// What the step carries over to the next one beside weights and moments; for checkpoints.
  const BalanceObjective& balance() const { return balance_; }
  BalanceObjective& balance() { return balance_; }

 private:
  TokenContext context_of(const Batch& batch, int64_t step) const;
  /// Means of the prediction blocks' cross entropies, weighted; undefined without such blocks. Appends the sums to `cross_entropies`.
  at::Tensor further_objective(const TransformerOutput& output, const Batch& batch, const StepSums& counts,
                               std::vector<at::Tensor>& cross_entropies);
  at::Tensor cross_entropy_of(const at::Tensor& hidden_BSD, const at::Tensor& target_BS, const at::Tensor& mask_BS);
  TermValue further_term(const StepSums& sums) const;  ///< what all of them add to the loss
  StepSums count_targets(const std::vector<Batch>& micro_batches) const;
  void count_routing(const std::vector<Batch>& micro_batches, int64_t step);
  /// The sums of the batch's cross entropy and those of the prediction blocks.
  std::vector<at::Tensor> forward_backward(const Batch& batch, int64_t step, const StepSums& counts);
  StepResult finish(StepSums sums, const std::vector<at::Tensor>& cross_entropies);

  ModelInstance& model_;
  const ProcessMesh& mesh_;
  uint64_t seed_;
  std::shared_ptr<RoutingTrace> routing_trace_;
  PhaseObserver* observer_ = nullptr;
  at::TensorOptions options_;  ///< of sums: float64 on the model's device
  BalanceObjective balance_;
};

}  // namespace switchyard
