// Rotary positions as config.json says them: rope_parameters of transformers 5, rope_theta and rope_scaling of 4.
#pragma once

#include "core/model_config.h"
#include "training/hf_family.h"
#include "training/hf_keys.h"

namespace switchyard {

/// Fills rope_theta and rope but its layout (interleaved). model.max_sequence_length must be known: it stands for a missing original
/// length. Errors: UserError for a type or key of scaling that the model here cannot express.
void read_rope(HfKeys& keys, const HfClass& hf, ModelConfig& model);

}  // namespace switchyard
