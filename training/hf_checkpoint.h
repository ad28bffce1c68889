// Reading a model folder in a Hugging Face layout: config.json, and model.safetensors or shards with an index.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "training/hf_config.h"
#include "training/hf_layout.h"
#include "training/model_instance.h"
#include "training/safetensors.h"

namespace switchyard {

/// A folder, opened for reading: its model is known, and every tensor of it is there with the right shape. Not collective: each rank reads
/// what it needs. Experts may stand one by one or stacked. A tied head that is there too must equal the embedding. Left unread:
/// rotary_emb.inv_freq, and the blocks behind num_hidden_layers that DeepSeek-V3 predicts further tokens with.
class HfCheckpoint {
 public:
  /// Errors: UserError that names the file and what is wrong: config.json (read_hf_config), a shard that is missing, tensors that are
  /// missing or that this model has no place for, another shape, a dtype other than F32, F16 or BF16.
  explicit HfCheckpoint(const std::filesystem::path& folder);

  HfFamily family() const { return model_.family; }
  const ModelConfig& config() const { return model_.config; }
  /// fp32 [numel]: rows [first_row, first_row + num_rows) of our tensor, flattened.
  at::Tensor read(const std::string& ours, int64_t first_row, int64_t num_rows) const;

 private:
  struct Source {
    HfTensor tensor;
    const SafetensorsFile* file;
    std::string name;  ///< in the file: not tensor.name where the head stands for the embedding
  };
  using Shards = std::map<std::string, const SafetensorsFile*>;  ///< by name of tensor

  Shards open_shards();
  Shards open_indexed_shards();
  /// The head of tied embeddings, which is there once, or twice the same.
  void settle_tied_head(Shards& shards) const;
  void take_sources(const Shards& shards);
  void refuse_leftovers(const Shards& shards) const;
  [[noreturn]] void refuse(const std::string& problem) const;

  std::filesystem::path folder_;
  HfModel model_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, std::vector<Source>> sources_;  ///< by our name
};

/// Fills the model, which has checkpoint.config()'s shape, with the weights of the folder, on any layout; moments are left as they are.
/// Not collective. Errors: UserError when the model has a tensor that the folder lacks, or another shape.
void load_hugging_face(ModelInstance& model, const HfCheckpoint& checkpoint);

}  // namespace switchyard
