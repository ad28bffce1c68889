#include "training/hf_checkpoint.h"

#include <fstream>
#include <set>
#include <sstream>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/strict_json.h"

namespace switchyard {
namespace {

constexpr int kHfJsonDepth = 16;
constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
constexpr const char* kHeadName = "lm_head.weight";

nlohmann::json read_hf_json(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw UserError(path.string() + ": cannot be read (no such file, or no permission)");
  try {
    return parse_strict_json(text.str(), kHfJsonDepth);
  } catch (const UserError& error) {
    throw UserError(path.string() + ": " + error.what());
  }
}

HfModel read_hf_model(const std::filesystem::path& folder) {
  const auto config = read_hf_json(folder / "config.json");
  try {
    return read_hf_config(config);
  } catch (const UserError& error) {
    throw UserError(folder.string() + ": " + error.what());
  }
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::ostringstream text;
  text << c10::IntArrayRef(shape);
  return text.str();
}

/// At most three of them.
std::string some_names(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 3; ++i) text += (i > 0 ? ", " : "") + names[i];
  return names.size() > 3 ? text + " and " + std::to_string(names.size() - 3) + " more" : text;
}

/// Of "model.layers.12.mlp.gate.weight": 12. Others: -1.
int64_t block_of(const std::string& name) {
  const std::string prefix = "model.layers.";
  if (!name.starts_with(prefix) || name.size() == prefix.size() || name[prefix.size()] < '0' || name[prefix.size()] > '9') return -1;
  return std::strtol(name.c_str() + prefix.size(), nullptr, 10);
}

}  // namespace

HfCheckpoint::HfCheckpoint(const std::filesystem::path& folder) : folder_(folder), model_(read_hf_model(folder)) {
  auto shards = open_shards();
  settle_tied_head(shards);
  take_sources(shards);
  refuse_leftovers(shards);
}

void HfCheckpoint::refuse(const std::string& problem) const {
  throw UserError(folder_.string() + ": " + problem);
}

HfCheckpoint::Shards HfCheckpoint::open_shards() {
  const std::string single = "model.safetensors";
  if (!std::filesystem::exists(folder_ / single)) return open_indexed_shards();
  const auto& file = files_[single] = std::make_unique<SafetensorsFile>(folder_ / single);
  Shards shards;
  for (const auto& [name, entry] : file->entries()) shards[name] = file.get();
  return shards;
}

HfCheckpoint::Shards HfCheckpoint::open_indexed_shards() {
  const auto path = folder_ / "model.safetensors.index.json";
  if (!std::filesystem::exists(path)) refuse("holds neither model.safetensors nor model.safetensors.index.json");
  const auto index = read_hf_json(path);
  const auto& map = required_member(index, "weight_map");
  if (!map.is_object()) throw UserError(path.string() + ": weight_map is not an object");
  Shards shards;
  for (const auto& [name, value] : map.items()) {
    const auto shard = string_value(value, path.string() + ": weight_map");
    if (std::filesystem::path(shard).filename() != shard) throw UserError(path.string() + ": \"" + shard + "\" is no file of this folder");
    auto& file = files_[shard];
    if (!file) file = std::make_unique<SafetensorsFile>(folder_ / shard);
    if (!file->entries().contains(name)) refuse(shard + " does not hold " + name + ", which the index says it does");
    shards[name] = file.get();
  }
  return shards;
}

void HfCheckpoint::settle_tied_head(Shards& shards) const {
  const auto head = shards.find(kHeadName), embedding = shards.find(kEmbeddingName);
  if (!model_.config.tie_embeddings || head == shards.end() || embedding == shards.end()) return;
  if (!at::equal(head->second->read(kHeadName), embedding->second->read(kEmbeddingName))) {
    refuse(std::string(kHeadName) + " differs from " + kEmbeddingName + ", though config.json has tie_word_embeddings = true");
  }
  shards.erase(head);
}

void HfCheckpoint::take_sources(const Shards& shards) {
  const auto has_stacked = [&] {
    for (const auto& [name, file] : shards) {
      if (name.ends_with(".mlp.experts.gate_up_proj")) return true;
    }
    return false;
  };
  std::vector<std::string> missing;
  for (auto& tensor : hf_tensors(model_.config, model_.family, has_stacked() ? HfExperts::kStacked : HfExperts::kAsSaved)) {
    std::string name = tensor.name;
    if (name == kEmbeddingName && model_.config.tie_embeddings && !shards.contains(name)) name = kHeadName;
    const auto found = shards.find(name);
    if (found == shards.end()) {
      missing.push_back(name);
      continue;
    }
    const auto& entry = found->second->entries().at(name);
    if (entry.shape != tensor.shape) {
      refuse(name + " has the shape " + shape_text(entry.shape) + ", config.json gives it " + shape_text(tensor.shape));
    }
    if (entry.dtype != at::kFloat && entry.dtype != at::kHalf && entry.dtype != at::kBFloat16) {
      refuse(name + " has the dtype " + c10::toString(entry.dtype) + "; weights are read in F32, F16 and BF16");
    }
    sources_[tensor.ours].push_back({std::move(tensor), found->second, std::move(name)});
  }
  if (!missing.empty()) refuse("lacks tensors of the model that config.json describes: " + some_names(missing));
}

void HfCheckpoint::refuse_leftovers(const Shards& shards) const {
  std::set<std::string> taken;
  for (const auto& [ours, sources] : sources_) {
    for (const auto& source : sources) taken.insert(source.name);
  }
  std::vector<std::string> left;
  for (const auto& [name, file] : shards) {
    const bool predicts = model_.family == HfFamily::kDeepseekV3 && block_of(name) >= model_.config.num_layers;
    if (!taken.contains(name) && !predicts && !name.ends_with(".rotary_emb.inv_freq")) left.push_back(name);
  }
  if (!left.empty()) refuse("holds tensors that the model of config.json has no place for: " + some_names(left));
}

at::Tensor HfCheckpoint::read(const std::string& ours, int64_t first_row, int64_t num_rows) const {
  const auto found = sources_.find(ours);
  if (found == sources_.end()) refuse("has no part of " + ours);
  const auto& shape = found->second.front().tensor.our_shape;
  const int64_t numel = c10::multiply_integers(shape), row = numel / shape[0], begin = first_row * row, end = begin + num_rows * row;
  TORCH_CHECK(first_row >= 0 && first_row + num_rows <= shape[0], "HfCheckpoint: ", ours, " has ", shape[0], " rows, not ", first_row,
              " + ", num_rows);
  const auto whole = at::empty({numel}, at::kFloat);  // pages that nobody writes are never there
  for (const auto& source : found->second) {
    const auto& tensor = source.tensor;
    if (tensor.begin >= end || tensor.begin + tensor.numel() <= begin) continue;
    tensor.in(whole).copy_(source.file->read(source.name).view(tensor.view_shape()));
  }
  return whole.narrow(0, begin, end - begin);
}

void load_hugging_face(ModelInstance& model, const HfCheckpoint& checkpoint) {
  at::NoGradGuard no_grad;
  for (auto& group : model.store->groups()) {
    for (const auto& slot : group.slots) {
      const auto whole = slot.range(), held = intersection(whole, group.state);
      const auto values = checkpoint.read(slot.name, slot.first_expert, slot.shape[0]);
      TORCH_CHECK(values.numel() == whole.numel(), "load_hugging_face: ", slot.name, " has ", whole.numel(), " elements, the folder ",
                  values.numel());
      ParameterGroup::of_whole(group.weights, whole).copy_(values);
      if (held.numel() > 0) group.of_state(group.master, held).copy_(values.narrow(0, held.begin - whole.begin, held.numel()));
    }
  }
  for (const auto& item : model.transformer->named_buffers()) {
    item.value().copy_(checkpoint.read(item.key(), 0, item.value().size(0)));
  }
}

}  // namespace switchyard
