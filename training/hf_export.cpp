#include "training/hf_export.h"

#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/byte_tokenizer_files.h"
#include "training/checkpoint.h"
#include "training/hf_fit.h"
#include "training/hf_layout.h"
#include "training/safetensors.h"
#include "training/tokenizer.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr const char* kOrigin = "switchyard.json";  // marks a folder as an export of ours

void write_json(const std::filesystem::path& path, const json& content) {
  std::ofstream file(path);
  file << content.dump(2) << "\n";
  file.close();
  if (!file) throw RunError(path.string() + ": cannot be written (no space, or no permission)");
}

void prepare(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder) && !std::filesystem::is_empty(folder) && !std::filesystem::exists(folder / kOrigin)) {
    throw UserError(folder.string() + ": is not empty and not an earlier export; choose another folder with --to");
  }
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  write_json(folder / kOrigin, json::object());
}

/// Which tensors go into which file: in order, a new shard when the next tensor would exceed the limit.
std::vector<std::vector<HfTensor>> shards(const std::vector<HfTensor>& tensors, int64_t element_bytes, int64_t max_shard_bytes) {
  std::vector<std::vector<HfTensor>> all(1);
  int64_t bytes = 0;
  for (const auto& tensor : tensors) {
    const int64_t more = tensor.numel() * element_bytes;
    if (bytes > 0 && bytes + more > max_shard_bytes) {
      all.emplace_back();
      bytes = 0;
    }
    all.back().push_back(tensor);
    bytes += more;
  }
  return all;
}

at::Tensor read_tensor(const CheckpointReader& checkpoint, const HfTensor& tensor, at::ScalarType stored, at::ScalarType wanted) {
  auto values = at::empty({tensor.numel()}, stored);  // as many as of ours, whatever their order
  checkpoint.read("model." + tensor.ours, tensor.our_shape, tensor.begin, values);
  return tensor.in(values, tensor.begin).reshape(tensor.shape).to(wanted);
}

void write_weights(const SavedRun& run, const CheckpointReader& checkpoint, HfFamily family, const std::filesystem::path& folder,
                   at::ScalarType dtype, int64_t max_shard_bytes) {
  const auto stored = run.precision == "fp64" ? at::kDouble : at::kFloat;
  const auto parts = shards(hf_tensors(run.config.model, family), static_cast<int64_t>(c10::elementSize(dtype)), max_shard_bytes);
  json index = {{"metadata", {{"total_size", 0}, {"total_parameters", 0}}}, {"weight_map", json::object()}};
  int64_t parameters = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto name = parts.size() == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, parts.size());
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const auto& tensor : parts[i]) {
      tensors.emplace_back(tensor.name, read_tensor(checkpoint, tensor, stored, dtype));
      index["weight_map"][tensor.name] = name;
      parameters += tensor.numel();
    }
    write_safetensors(folder / name, tensors);
  }
  index["metadata"] = {{"total_size", parameters * static_cast<int64_t>(c10::elementSize(dtype))}, {"total_parameters", parameters}};
  write_json(folder / "model.safetensors.index.json", index);
}

}  // namespace

void export_hugging_face(const SavedRun& run, const std::filesystem::path& folder, at::ScalarType dtype, int64_t max_shard_bytes) {
  const auto family = hf_family(run.config.model);
  const CheckpointReader checkpoint(run.checkpoint);
  prepare(folder);
  write_weights(run, checkpoint, family, folder, dtype, max_shard_bytes);
  const bool bytes = run.config.data.format == DataFormat::kText;
  if (bytes) write_byte_tokenizer_files(folder, run.config.model.max_sequence_length);
  const auto dtype_name = dtype == at::kBFloat16 ? "bfloat16" : "float32";
  write_json(folder / "config.json", hf_config(run.config.model, family, dtype_name, bytes ? kEndOfDocument : -1));
  write_json(folder / kOrigin, {{"source", run.checkpoint.string()}, {"step", run.step}, {"aux_loss", run.config.model.moe.has_value()}});
}

}  // namespace switchyard
