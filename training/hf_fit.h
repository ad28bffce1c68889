// Which Hugging Face family a model of ours fits, and its config.json there.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/model_config.h"
#include "training/hf_family.h"

namespace switchyard {

/// The family that this model fits exactly: the same function, nothing lost. Llama: dense. Mixtral: every block MoE, renormalised, no
/// shared expert, no biases. Qwen2-MoE: gated shared expert and biases on q, k, v. Errors: UserError that says for each family what does
/// not fit.
HfFamily hf_family(const ModelConfig& config);

/// config.json, with the keys of transformers 4 and 5 both. `dtype`: "float32" or "bfloat16". end_of_text: token id, -1 = none.
nlohmann::json hf_config(const ModelConfig& config, HfFamily family, const std::string& dtype, int64_t end_of_text);

}  // namespace switchyard
