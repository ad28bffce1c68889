// The keys of config.json about experts.
#pragma once

#include "core/model_config.h"
#include "training/hf_family.h"
#include "training/hf_keys.h"

namespace switchyard {

/// Fills model.moe, or leaves it out where the family or the file has no block with experts. The sizes of the model must be known. Errors:
/// UserError for what the routers and experts here cannot do.
void read_moe(HfKeys& keys, const HfClass& hf, ModelConfig& model);

}  // namespace switchyard
