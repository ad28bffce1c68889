// Writing a checkpoint in a Hugging Face layout.
#pragma once

#include <filesystem>

#include "training/saved_run.h"

namespace switchyard {

/// Writes to `folder`: config.json, model.safetensors (or shards of at most max_shard_bytes), model.safetensors.index.json, tokenizer.json
/// and tokenizer_config.json for byte models, switchyard.json (where it came from). `dtype`: kFloat or kBFloat16. Errors: UserError when
/// the model fits no layout exactly, or the folder holds something else than an earlier export.
void export_hugging_face(const SavedRun& run, const std::filesystem::path& folder, at::ScalarType dtype,
                         int64_t max_shard_bytes = int64_t{5} << 30);

}  // namespace switchyard
