#include "training/model_instance.h"

#include <set>

#include "core/error.h"
#include "core/init.h"
#include "parallel/all_to_all_dispatcher.h"

namespace switchyard {
namespace {

struct NamedDispatcher {
  std::shared_ptr<TokenDispatcher> dispatcher;
  std::string all_to_all;
};

NamedDispatcher make_dispatcher(const ModelConfig& config, const ParallelConfig& parallel, const ProcessMesh& mesh) {
  if (!config.moe) return {};
  const auto& expert_group = mesh.group("expert");
  if (expert_group->size() == 1) return {make_local_dispatcher(config.moe->num_experts, parallel.dispatch_chunks), ""};
  auto choice = choose_all_to_all(*mesh.world(), expert_group, parallel.all_to_all);
  return {make_all_to_all_dispatcher(config.moe->num_experts, std::move(choice.group), parallel.dispatch_chunks),
          std::move(choice.description)};
}

struct NamedBuffer {
  const char* prefix;
  at::Tensor buffer;
};

std::vector<NamedBuffer> buffers(const ParameterGroup& group) {
  std::vector<NamedBuffer> all = {{"model.", group.master}};
  if (group.exp_avg.defined()) {
    all.push_back({"exp_avg.", group.exp_avg});
    all.push_back({"exp_avg_sq.", group.exp_avg_sq});
  }
  return all;
}

/// Elements of the global tensor before the part held here.
int64_t global_begin(const ParameterSlot& slot) {
  return slot.num_experts > 0 ? slot.first_expert * (slot.numel / slot.shape[0]) : 0;
}

void append_pieces(std::vector<TensorPiece>& pieces, const ParameterSlot& slot, const NamedBuffer& named) {
  const auto flat = named.buffer.narrow(0, slot.offset, slot.numel).cpu();
  const int64_t parts = slot.num_experts > 0 ? slot.shape[0] : 1, numel = slot.numel / parts;
  for (int64_t part = 0; part < parts; ++part) {
    pieces.push_back(
        {named.prefix + slot.name, slot.global_shape(), global_begin(slot) + part * numel, flat.narrow(0, part * numel, numel)});
  }
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
  auto [dispatcher, all_to_all] = make_dispatcher(config, parallel, mesh);
  instance.all_to_all = std::move(all_to_all);
  const ExecutionConfig execution{.recompute = recompute, .overlap_shared_expert = parallel.overlap_shared_expert};
  instance.transformer = Transformer(config, std::move(dispatcher), execution);
  const auto parameters = instance.transformer->parameters_by_name();
  initialize_parameters(parameters, config, seed);
  instance.store = std::make_unique<ParameterStore>(parameters, c10::typeMetaToScalarType(run_options.dtype()), run_options.device(),
                                                    with_optimizer_state);
  return instance;
}

std::vector<TensorPiece> checkpoint_pieces(ParameterStore& store, const ProcessMesh& mesh) {
  std::vector<TensorPiece> pieces;
  const auto& data = mesh.group("data");
  int64_t index = 0;
  for (const auto& slot : store.dense().slots) {
    if (index++ % data->size() != data->rank()) continue;
    for (const auto& named : buffers(store.dense())) append_pieces(pieces, slot, named);
  }
  if (mesh.group("expert_data")->rank() != 0) return pieces;
  for (const auto& slot : store.experts().slots) {
    for (const auto& named : buffers(store.experts())) append_pieces(pieces, slot, named);
  }
  return pieces;
}

void load_checkpoint(ParameterStore& store, const CheckpointReader& checkpoint) {
  at::NoGradGuard no_grad;
  std::set<std::string> known;
  for (auto& group : store.groups()) {
    for (const auto& slot : group.slots) {
      known.insert("model." + slot.name);
      for (const auto& named : buffers(group)) {
        auto place = named.buffer.narrow(0, slot.offset, slot.numel);
        auto values = at::empty({slot.numel}, place.options().device(at::kCPU));
        checkpoint.read(named.prefix + slot.name, slot.global_shape(), global_begin(slot), values);
        place.copy_(values);
      }
    }
  }
  refuse_unknown_tensors(known, checkpoint);
  store.refresh_weights();
}

}  // namespace switchyard
