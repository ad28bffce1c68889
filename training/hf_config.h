// config.json of Hugging Face transformers as a model of ours.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/model_config.h"
#include "training/hf_family.h"

namespace switchyard {

struct HfModel {
  HfFamily family;
  ModelConfig config;
};

/// The model that config.json describes, written by transformers 4 or 5: the same function, nothing left out. Balancing: aux_loss as the
/// family's own (form hugging_face, its coefficient) or none, no z-loss; selection biases (DeepSeek-V3) move by 0.001 a step as in its
/// paper. Blocks of multi-token prediction are left out, as transformers does. Errors: UserError that names the key, its value and why the
/// model cannot be built: an unknown family or key, what no part here computes, sizes that do not fit each other.
HfModel read_hf_config(const nlohmann::json& config);

}  // namespace switchyard
