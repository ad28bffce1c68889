// Hugging Face checkpoint layouts: which of their tensors is which part of ours. One table serves both directions.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/model_config.h"

namespace switchyard {

enum class HfFamily { kLlama, kMixtral, kQwen2Moe };

/// The family that this model fits exactly: the same function, nothing lost. Llama: dense. Mixtral: every block MoE, renormalised, no
/// shared expert, no biases. Qwen2-MoE: gated shared expert and biases on q, k, v. Errors: UserError that says for each family what does
/// not fit.
HfFamily hf_family(const ModelConfig& config);

/// One of their tensors: rows [first_row, first_row + shape[0]) of our tensor, or of one expert's slice of it.
struct HfTensor {
  std::string name;            ///< theirs
  std::vector<int64_t> shape;  ///< theirs
  std::string ours;            ///< global name
  std::vector<int64_t> our_shape;
  int64_t begin = 0;  ///< first element in our flattened tensor; the part is contiguous
};

/// All tensors of the model, in a fixed order.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, HfFamily family);

/// config.json, with the keys of transformers 4 and 5 both. `dtype`: "float32" or "bfloat16". end_of_text: token id, -1 = none.
nlohmann::json hf_config(const ModelConfig& config, HfFamily family, const std::string& dtype, int64_t end_of_text);

}  // namespace switchyard
