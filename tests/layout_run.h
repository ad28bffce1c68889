// Trains a tiny model on made-up tokens on whatever communicator it is given, and writes down what must not depend on the layout.
#pragma once

#include <map>
#include <mutex>

#include "parallel/gradient_sync.h"
#include "tests/tiny_models.h"
#include "training/optimizer.h"
#include "training/routing_record.h"
#include "training/training_step.h"

namespace switchyard {

/// One job (model, tokens, steps) and one layout of it.
struct LayoutCase {
  ModelConfig model = tiny_config();
  int64_t global_batch_size = 8;
  int64_t steps = 5;
  at::ScalarType dtype = at::kDouble;
  int64_t masked_tail = 0;  ///< positions at the end of every third sequence that are padding
  // the layout
  int64_t ranks = 1;
  int64_t ranks_per_node = 0;  ///< consecutive ranks that share a machine (threads only); 0 = all
  ParallelConfig parallel = {};
  Recompute recompute = Recompute::kNone;
  int64_t micro_batch_size = 8;
  RoutingConfig routing = {};  ///< folders to record to and to replay from
};

struct StepTrace {
  double loss, cross_entropy, grad_norm;
  std::vector<double> terms;
  std::vector<double> routing;  ///< all RoutingSums of all layers, one after the other
};

struct LayoutTrace {
  std::vector<StepTrace> steps;
  std::map<std::string, at::Tensor> tensors;  ///< master weights and moments after the last step, whole, by global name
};

inline Batch made_up_batch(const LayoutCase& job, int64_t step, int64_t first, int64_t count) {
  const int64_t S = job.model.max_sequence_length;
  const auto sample_B1 = (at::arange(first, first + count, at::kLong) + (step - 1) * job.global_batch_size).unsqueeze(1);
  const auto position_S1 = at::arange(S + 1, at::kLong).unsqueeze(0);
  // Every window differs, and no window begins with a token twice: such positions are equal by mathematics, and rounding would decide
  // between them.
  const auto tokens =
      (sample_B1 * 13 + position_S1 * position_S1 * 5 + sample_B1.remainder(5) * position_S1 * 3).remainder(job.model.vocab_size);
  Batch batch;
  batch.inputs_BS = tokens.narrow(1, 0, S).contiguous();
  batch.targets_BS = tokens.narrow(1, 1, S).contiguous();
  batch.mask_BS = at::ones({count, S}, at::kBool);
  batch.global_sample_B = at::arange(first, first + count, at::kLong);
  batch.domain_B = at::zeros({count}, at::kLong);
  for (int64_t b = 0; b < count; ++b) {
    if ((first + b) % 3 == 0 && job.masked_tail > 0) batch.mask_BS[b].narrow(0, S - job.masked_tail, job.masked_tail).fill_(false);
  }
  return batch;
}

inline StepTrace trace_of(const StepResult& result, double grad_norm) {
  StepTrace trace{result.loss, result.sums.cross_entropy(), grad_norm, {}, {}};
  for (const auto& term : result.terms) trace.terms.push_back(term.value);
  for (const auto& layer : result.sums.layers) {
    const auto packed = layer.packed().contiguous();
    trace.routing.insert(trace.routing.end(), packed.const_data_ptr<double>(), packed.const_data_ptr<double>() + packed.numel());
  }
  return trace;
}

/// Sets the step's trace; the recorder where there is one.
inline std::shared_ptr<RoutingRecorder> trace_routing(const LayoutCase& job, const CommunicatorPtr& world, TrainingStep& training_step) {
  if (!job.routing.record && !job.routing.replay) return nullptr;
  const auto shape = choice_shape(job.model, job.global_batch_size, job.model.max_sequence_length);
  std::shared_ptr<RoutingTrace> trace;
  if (job.routing.replay) trace = std::make_shared<RoutingReplay>(*job.routing.replay, shape);
  std::shared_ptr<RoutingRecorder> recorder;
  if (job.routing.record) trace = recorder = std::make_shared<RoutingRecorder>(*job.routing.record, shape, world, trace);
  training_step.trace_routing(trace);
  return recorder;
}

/// What this rank contributes; `tensors` holds the pieces that it would write into a checkpoint. Collective.
inline LayoutTrace train_here(const LayoutCase& job, const CommunicatorPtr& world, std::vector<TensorPiece>& pieces) {
  const ProcessMesh mesh(world, job.parallel.expert, job.parallel.rank_order);
  auto model = build_model(job.model, job.parallel, mesh, at::dtype(job.dtype), /*seed=*/3, /*with_optimizer_state=*/true, job.recompute);
  TrainingStep training_step(model, mesh, /*seed=*/3);
  const auto recorder = trace_routing(job, world, training_step);
  OptimizerConfig optimizer;
  optimizer.learning_rate = 0.01;
  LayoutTrace trace;
  const int64_t accumulation = job.global_batch_size / (world->size() * job.micro_batch_size);
  for (int64_t step = 1; step <= job.steps; ++step) {
    std::vector<Batch> batches;
    for (int64_t m = 0; m < accumulation; ++m) {
      batches.push_back(made_up_batch(job, step, (m * world->size() + world->rank()) * job.micro_batch_size, job.micro_batch_size));
    }
    const auto result = training_step.run(batches, step);
    if (recorder) recorder->write(step);
    const double norm = gradient_norm(*model.store, mesh);
    trace.steps.push_back(trace_of(result, norm));
    adamw_step(*model.store, optimizer, optimizer.learning_rate, step, norm > 1.0 ? 1.0 / norm : 1.0);
    gather_weights(*model.store, mesh);
  }
  for (auto& piece : checkpoint_pieces(*model.store, mesh)) {
    piece.data = piece.data.clone();
    pieces.push_back(std::move(piece));
  }
  return trace;
}

inline std::map<std::string, at::Tensor> joined(const std::vector<TensorPiece>& pieces) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& piece : pieces) {
    auto& whole = tensors[piece.tensor];
    if (!whole.defined()) whole = at::full(piece.global_shape, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
    whole.view({-1}).narrow(0, piece.begin, piece.data.numel()).copy_(piece.data.view({-1}));
  }
  return tensors;
}

/// The job on job.ranks threads.
inline LayoutTrace train_on_threads(const LayoutCase& job) {
  LayoutTrace trace;
  std::vector<TensorPiece> all;
  std::mutex mutex;
  const auto train = [&](const CommunicatorPtr& world) {
    std::vector<TensorPiece> pieces;
    auto mine = train_here(job, world, pieces);
    const std::scoped_lock lock(mutex);
    if (world->rank() == 0) trace.steps = std::move(mine.steps);
    all.insert(all.end(), pieces.begin(), pieces.end());
  };
  run_ranks_as_threads(job.ranks, train, job.ranks_per_node);
  trace.tensors = joined(all);
  return trace;
}

inline double relative(double a, double b) {
  return std::abs(a - b) / std::max({std::abs(a), std::abs(b), 1e-300});
}

/// The largest relative difference of losses, terms, norms and routing sums in the first `steps` steps.
inline double largest_difference(const LayoutTrace& a, const LayoutTrace& b, size_t steps) {
  double largest = 0.0;
  const auto compare = [&](const std::vector<double>& x, const std::vector<double>& y) {
    if (x.size() != y.size()) largest = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) largest = std::max(largest, x[i] == y[i] ? 0.0 : relative(x[i], y[i]));
  };
  for (size_t s = 0; s < steps; ++s) {
    const auto &x = a.steps.at(s), &y = b.steps.at(s);
    compare({x.loss, x.cross_entropy, x.grad_norm}, {y.loss, y.cross_entropy, y.grad_norm});
    compare(x.terms, y.terms);
    compare(x.routing, y.routing);
  }
  return largest;
}

/// The largest ||a - b|| / max(||a||, learning rate x steps x sqrt(n)) over tensors.
inline double largest_tensor_difference(const LayoutTrace& a, const LayoutTrace& b, const LayoutCase& job) {
  double largest = a.tensors.size() == b.tensors.size() ? 0.0 : std::numeric_limits<double>::infinity();
  for (const auto& [name, tensor] : a.tensors) {
    const double scale =
        std::max(tensor.norm().item<double>(), 0.01 * static_cast<double>(job.steps) * std::sqrt(static_cast<double>(tensor.numel())));
    const double difference = (tensor - b.tensors.at(name)).norm().item<double>() / scale;
    largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
  }
  return largest;
}

}  // namespace switchyard
