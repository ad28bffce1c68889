#include "training/model_instance.h"

#include <set>

#include "core/balance.h"
#include "core/error.h"
#include "core/init.h"
#include "parallel/all_to_all_dispatcher.h"

namespace switchyard {
namespace {

struct NamedDispatchers {
  Dispatchers dispatchers;
  std::string all_to_all;  ///< which one carries the tokens; empty where none is needed
};

NamedDispatchers make_dispatchers(const ModelConfig& config, const ParallelConfig& parallel, const ProcessMesh& mesh) {
  if (!config.moe) return {};
  NamedDispatchers made;
  auto group = mesh.group("expert");
  if (group->size() > 1) {
    auto choice = choose_all_to_all(*mesh.world(), group, parallel.all_to_all);
    group = std::move(choice.group);
    made.all_to_all = std::move(choice.description);
  }
  for (const auto& shape : sums_shapes(config)) {
    auto& dispatcher = made.dispatchers[shape.num_experts];
    if (!dispatcher) dispatcher = make_all_to_all_dispatcher(shape.num_experts, group, parallel.dispatch_chunks);
  }
  return made;
}

struct NamedBuffer {
  const char* prefix;
  at::Tensor buffer;
};

std::vector<NamedBuffer> state_buffers(const ParameterGroup& group) {
  if (!group.exp_avg.defined()) return {{"model.", group.master}};
  return {{"model.", group.master}, {"exp_avg.", group.exp_avg}, {"exp_avg_sq.", group.exp_avg_sq}};
}

/// Where an element of the flat buffers lies in the slot's flattened global tensor.
int64_t global_place(const ParameterSlot& slot, int64_t flat_place) {
  const int64_t elements_before = slot.num_experts > 0 ? slot.first_expert * (slot.numel / slot.shape[0]) : 0;
  return elements_before + flat_place - slot.offset;
}

/// What of `slot` lies in `written`, one piece an expert.
void append_pieces(std::vector<TensorPiece>& pieces, const ParameterGroup& group, const ParameterSlot& slot, const FlatRange& written) {
  const int64_t parts = slot.num_experts > 0 ? slot.shape[0] : 1, numel = slot.numel / parts;
  for (const auto& named : state_buffers(group)) {
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t begin = slot.offset + part * numel;
      const auto range = intersection({begin, begin + numel}, written);
      if (range.numel() == 0) continue;
      pieces.push_back(
          {named.prefix + slot.name, slot.global_shape(), global_place(slot, range.begin), group.of_state(named.buffer, range).cpu()});
    }
  }
}

/// Elements of `range` of the tensor called prefix + slot.name, on the host.
at::Tensor read_range(const CheckpointReader& checkpoint, const char* prefix, const ParameterSlot& slot, const FlatRange& range,
                      at::ScalarType dtype) {
  auto values = at::empty({range.numel()}, dtype);
  checkpoint.read(prefix + slot.name, slot.global_shape(), global_place(slot, range.begin), values);
  return values;
}

/// Weights are held whole, the state only in part.
void load_slot(ParameterGroup& group, const ParameterSlot& slot, const CheckpointReader& checkpoint) {
  const auto wide = group.master.scalar_type();
  const auto whole = slot.range(), held = intersection(whole, group.state);
  const auto values = read_range(checkpoint, "model.", slot, whole, wide);
  ParameterGroup::of_whole(group.weights, whole).copy_(values);
  if (held.numel() == 0) return;
  group.of_state(group.master, held).copy_(values.narrow(0, held.begin - whole.begin, held.numel()));
  if (!group.exp_avg.defined()) return;
  group.of_state(group.exp_avg, held).copy_(read_range(checkpoint, "exp_avg.", slot, held, wide));
  group.of_state(group.exp_avg_sq, held).copy_(read_range(checkpoint, "exp_avg_sq.", slot, held, wide));
}

/// Which part of the optimizer state of dense parameters and of experts is this rank's.
std::array<Shard, 2> shards_of(const ProcessMesh& mesh) {
  const auto &data = *mesh.group("data"), &expert_data = *mesh.group("expert_data");
  return {Shard{data.rank(), data.size()}, Shard{expert_data.rank(), expert_data.size()}};
}

/// What modules hold beside parameters, such as the routers' selection biases: whole on every rank.
void append_buffers(std::vector<TensorPiece>& pieces, const Transformer& transformer) {
  for (const auto& item : transformer->named_buffers()) {
    pieces.push_back({"model." + item.key(), item.value().sizes().vec(), /*begin=*/0, item.value().cpu().contiguous()});
  }
}

/// Returns the names of those that the model has.
std::set<std::string> load_buffers(const Transformer& transformer, const CheckpointReader& checkpoint) {
  std::set<std::string> names;
  for (const auto& item : transformer->named_buffers()) {
    const auto name = "model." + item.key();
    auto values = at::empty_like(item.value(), at::kCPU);
    checkpoint.read(name, values.sizes().vec(), /*begin=*/0, values);
    item.value().copy_(values);
    names.insert(name);
  }
  return names;
}

void refuse_unknown_tensors(const std::set<std::string>& known, const CheckpointReader& checkpoint) {
  for (const auto& [name, shape] : checkpoint.tensors()) {
    if (name.starts_with("model.") && !known.contains(name)) {
      throw UserError("checkpoint: tensor " + name +
                      " is not part of the configured model; use the configuration that the checkpoint was made with");
    }
  }
}

}  // namespace

ModelInstance build_model(const ModelConfig& config, const ParallelConfig& parallel, const ProcessMesh& mesh,
                          const at::TensorOptions& run_options, uint64_t seed, bool with_optimizer_state, Recompute recompute) {
  ModelInstance instance;
  auto [dispatchers, all_to_all] = make_dispatchers(config, parallel, mesh);
  instance.all_to_all = std::move(all_to_all);
  const ExecutionConfig execution{.recompute = recompute, .overlap_shared_expert = parallel.overlap_shared_expert};
  instance.transformer = Transformer(config, dispatchers, execution);
  for (auto& buffer : instance.transformer->buffers()) buffer.set_data(buffer.to(run_options.device()));
  const auto parameters = instance.transformer->parameters_by_name();
  initialize_parameters(parameters, config, seed);
  const bool shares_state = with_optimizer_state && parallel.zero_stage == 1;
  instance.store = std::make_unique<ParameterStore>(parameters, c10::typeMetaToScalarType(run_options.dtype()), run_options.device(),
                                                    with_optimizer_state, shares_state ? shards_of(mesh) : std::array<Shard, 2>());
  if (with_optimizer_state) {
    instance.gradient_sync = std::make_unique<GradientSync>(
        *instance.store, mesh, GradientSyncOptions{parallel.gradient_bucket_size, parallel.overlap_gradient_sync});
  }
  return instance;
}

std::vector<TensorPiece> checkpoint_pieces(ModelInstance& model, const ProcessMesh& mesh) {
  std::vector<TensorPiece> pieces;
  if (mesh.world()->rank() == 0) append_buffers(pieces, model.transformer);
  const auto ranks = shards_of(mesh);
  for (size_t g = 0; g < ranks.size(); ++g) {
    const auto& group = model.store->groups()[g];
    for (size_t s = 0; s < group.slots.size(); ++s) {
      const auto& slot = group.slots[s];
      const bool is_mine = group.is_sharded() || static_cast<int64_t>(s) % ranks[g].count == ranks[g].index;
      if (is_mine) append_pieces(pieces, group, slot, intersection(slot.range(), group.state));
    }
  }
  return pieces;
}

void load_checkpoint(ModelInstance& model, const CheckpointReader& checkpoint) {
  at::NoGradGuard no_grad;
  auto known = load_buffers(model.transformer, checkpoint);
  for (auto& group : model.store->groups()) {
    for (const auto& slot : group.slots) {
      known.insert("model." + slot.name);
      load_slot(group, slot, checkpoint);
    }
  }
  refuse_unknown_tensors(known, checkpoint);
}

}  // namespace switchyard
