// Trains a tiny model on made-up tokens on whatever communicator it is given, and writes down what must not depend on the layout.
#pragma once

#include <functional>
#include <map>

#include "core/host_copy.h"
#include "parallel/gradient_sync.h"
#include "tests/tiny_models.h"
#include "training/documents.h"
#include "training/optimizer.h"
#include "training/routing_record.h"
#include "training/selection_bias.h"
#include "training/training_step.h"

namespace switchyard {

/// One job (model, tokens, steps) and one layout of it.
struct LayoutCase {
  ModelConfig model = tiny_config();
  int64_t global_batch_size = 8;
  int64_t steps = 5;
  at::ScalarType dtype = at::kDouble;
  at::Device device = at::kCPU;
  int64_t masked_tail = 0;     ///< positions at the end of every third sequence that are padding
  at::Tensor tokens_NGS = {};  ///< of every step and global sample, S + 1 tokens; undefined = made up by a formula
  at::Tensor mask_GS = {};     ///< of every global sample, the same in every step; undefined = all but masked tails
  OptimizerConfig optimizer = {.learning_rate = 0.01};
  DataConfig documents = {};    ///< reset_attention_mask and reset_position_ids of it, at every token
  int64_t end_of_document = 0;  ///< ... that is this one
  bool zero_routers = false;    ///< router weights start at zero: every choice is a tie
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

using TensorMap = std::map<std::string, at::Tensor>;

struct LayoutTrace {
  std::vector<StepTrace> steps = {};
  TensorMap initial = {};       ///< weights before the first step, whole, by global name
  TensorMap tensors = {};       ///< master weights and moments after the last step
  double replica_spread = 0.0;  ///< the largest difference between ranks in what all of them, or all holders of a weight, must hold alike
};

/// tokens: [count, S + 1], of the global samples from `first` on.
inline Batch batch_of_tokens(const at::Tensor& tokens, const at::Tensor& mask_BS, int64_t first) {
  const int64_t count = mask_BS.size(0), S = mask_BS.size(1);
  Batch batch;
  batch.inputs_BS = tokens.narrow(1, 0, S).contiguous();
  batch.targets_BS = tokens.narrow(1, 1, S).contiguous();
  batch.mask_BS = mask_BS;
  batch.global_sample_B = at::arange(first, first + count, at::kLong);
  batch.domain_B = batch.global_sample_B.remainder(3);
  return batch;
}

/// Global samples [first, first + count) of the job's own tokens.
inline Batch drawn_batch(const LayoutCase& job, int64_t step, int64_t first, int64_t count) {
  return batch_of_tokens(job.tokens_NGS[step - 1].narrow(0, first, count), job.mask_GS.narrow(0, first, count).contiguous(), first);
}

inline Batch made_up_batch(const LayoutCase& job, int64_t step, int64_t first, int64_t count) {
  const int64_t S = job.model.max_sequence_length;
  const auto sample_B1 = (at::arange(first, first + count, at::kLong) + (step - 1) * job.global_batch_size).unsqueeze(1);
  const auto position_S1 = at::arange(S + 1, at::kLong).unsqueeze(0);
  // Every window differs, and no window begins with a token twice: such positions are equal by mathematics, and rounding would decide
  // between them.
  const auto tokens =
      (sample_B1 * 13 + position_S1 * position_S1 * 5 + sample_B1.remainder(5) * position_S1 * 3).remainder(job.model.vocab_size);
  const auto mask_BS = at::ones({count, S}, at::kBool);
  for (int64_t b = 0; b < count; ++b) {
    if ((first + b) % 3 == 0 && job.masked_tail > 0) mask_BS[b].narrow(0, S - job.masked_tail, job.masked_tail).fill_(false);
  }
  return batch_of_tokens(tokens, mask_BS, first);
}

inline Batch batch_of(const LayoutCase& job, int64_t step, int64_t first, int64_t count) {
  auto batch = job.tokens_NGS.defined() ? drawn_batch(job, step, first, count) : made_up_batch(job, step, first, count);
  if (job.documents.reset_attention_mask) batch.document_BS = document_numbers(batch.inputs_BS, job.end_of_document);
  if (job.documents.reset_position_ids) batch.position_BS = document_positions(batch.inputs_BS, job.end_of_document);
  return batch;
}

inline StepTrace trace_of(const StepResult& result, double grad_norm) {
  StepTrace trace{result.loss, result.sums.cross_entropy(), grad_norm, {}, {}};
  for (const auto& term : result.terms) trace.terms.push_back(term.value);
  for (const auto& layer : result.sums.layers) {
    const auto packed = to_host(layer.packed()).contiguous();
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

inline void zero_routers(ParameterGroup& dense) {
  for (const auto& slot : dense.slots) {
    if (!slot.name.ends_with("router.weight")) continue;
    ParameterGroup::view(dense.weights, slot).zero_();
    const auto held = intersection(slot.range(), dense.state);
    if (dense.has_own_master() && held.numel() > 0) dense.of_state(dense.master, held).zero_();
  }
}

/// The tensors that the ranks' pieces make up; NaN where an element is in no piece, or in several. Collective.
inline TensorMap whole_tensors(ModelInstance& model, const ProcessMesh& mesh, const std::vector<std::string>& prefixes) {
  struct Place {
    int64_t begin;
    std::vector<int64_t> shape;
  };
  std::map<std::string, Place> places;
  int64_t numel = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    places[name] = {numel, shape};
    numel += c10::multiply_integers(shape);
  };
  for (const auto& group : model.store->groups()) {
    for (const auto& slot : group.slots) {
      for (const auto& prefix : prefixes) add(prefix + slot.name, slot.global_shape());
    }
  }
  for (const auto& buffer : model.transformer->named_buffers()) add("model." + buffer.key(), buffer.value().sizes().vec());
  const auto values_and_counts = at::zeros({2, numel}, at::kDouble);
  for (const auto& piece : checkpoint_pieces(model, mesh)) {
    const auto place = places.find(piece.tensor);
    if (place == places.end()) continue;
    const auto part = values_and_counts.narrow(1, place->second.begin + piece.begin, piece.data.numel());
    part[0].copy_(piece.data.view({-1}));
    part[1].add_(1.0);
  }
  mesh.world()->all_reduce_sum(values_and_counts)->wait();
  const auto values = values_and_counts[0].masked_fill(values_and_counts[1].ne(1.0), std::numeric_limits<double>::quiet_NaN());
  TensorMap tensors;
  for (const auto& [name, place] : places) {
    tensors[name] = values.narrow(0, place.begin, c10::multiply_integers(place.shape)).view(place.shape);
  }
  return tensors;
}

/// The largest difference between two ranks of the group in the same tensor. Collective.
inline double spread(const at::Tensor& tensor, Communicator& group) {
  if (tensor.numel() == 0) return 0.0;
  const auto both = at::stack({tensor.to(at::kDouble), -tensor.to(at::kDouble)});
  group.all_reduce_max(both);
  return both.sum(0).max().item<double>();
}

inline double replica_spread(ModelInstance& model, const std::vector<StepTrace>& steps, const ProcessMesh& mesh) {
  std::vector<double> values;
  for (const auto& step : steps) {
    values.insert(values.end(), {step.loss, step.cross_entropy, step.grad_norm});
    values.insert(values.end(), step.terms.begin(), step.terms.end());
    values.insert(values.end(), step.routing.begin(), step.routing.end());
  }
  return std::max({spread(at::tensor(values, at::kDouble), *mesh.world()), spread(model.store->dense().weights, *mesh.group("data")),
                   spread(model.store->experts().weights, *mesh.group("expert_data"))});
}

inline std::vector<Batch> micro_batches(const LayoutCase& job, int64_t step, const Communicator& world) {
  std::vector<Batch> batches;
  for (const auto first : first_samples(job.global_batch_size, job.micro_batch_size, world)) {
    batches.push_back(to_device(batch_of(job, step, first, job.micro_batch_size), job.device));
  }
  return batches;
}

/// The run as this rank sees it; tensors are whole on every rank. `trace`: what the routers' choices go through instead of the job's
/// folders. Collective.
inline LayoutTrace train_here(const LayoutCase& job, const CommunicatorPtr& world, const std::shared_ptr<RoutingTrace>& trace = nullptr) {
  const ProcessMesh mesh(world, job.parallel.expert, job.parallel.rank_order);
  auto model = build_model(job.model, job.parallel, mesh, at::dtype(job.dtype).device(job.device), /*seed=*/3,
                           /*with_optimizer_state=*/true, job.recompute);
  if (job.zero_routers) zero_routers(model.store->dense());
  TrainingStep training_step(model, mesh, /*seed=*/3);
  const auto recorder = trace_routing(job, world, training_step);
  if (trace) training_step.trace_routing(trace);
  const auto& optimizer = job.optimizer;
  LayoutTrace run{.steps = {}, .initial = whole_tensors(model, mesh, {"model."}), .tensors = {}};
  for (int64_t step = 1; step <= job.steps; ++step) {
    const auto result = training_step.run(micro_batches(job, step, *world), step);
    if (recorder) recorder->write(step);
    const double norm = gradient_norm(*model.store, mesh);
    run.steps.push_back(trace_of(result, norm));
    adamw_step(*model.store, optimizer, optimizer.learning_rate, step,
               norm > optimizer.clip_grad_norm ? optimizer.clip_grad_norm / norm : 1.0);
    gather_weights(*model.store, mesh);
    update_selection_bias(model.transformer, result.sums.layers);
  }
  run.tensors = whole_tensors(model, mesh, {"model.", "exp_avg.", "exp_avg_sq."});
  run.replica_spread = replica_spread(model, run.steps, mesh);
  return run;
}

/// The job on job.ranks threads, as rank 0 sees it.
inline LayoutTrace train_on_threads(const LayoutCase& job) {
  LayoutTrace run;
  const auto train = [&](const CommunicatorPtr& world) {
    auto mine = train_here(job, world);
    if (world->rank() == 0) run = std::move(mine);
  };
  run_ranks_as_threads(job.ranks, train, job.ranks_per_node);
  return run;
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
    const double scale = std::max(tensor.norm().item<double>(), job.optimizer.learning_rate * static_cast<double>(job.steps) *
                                                                    std::sqrt(static_cast<double>(tensor.numel())));
    const double difference = (tensor - b.tensors.at(name)).norm().item<double>() / scale;
    largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
  }
  return largest;
}

}  // namespace switchyard
