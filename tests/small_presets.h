// The configurations of configs/small as jobs that take a moment.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/layout_run.h"
#include "training/run_config.h"

namespace switchyard {

inline std::vector<std::string> small_presets() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(SWITCHYARD_SOURCE_DIR "/configs/small"))
    paths.push_back(entry.path().string());
  std::ranges::sort(paths);
  return paths;
}

inline std::string preset_name(const std::string& path) {
  return std::filesystem::path(path).stem().string();
}

/// The preset's model over fewer, shorter sequences, with the same tokens in every step.
inline LayoutCase preset_job(const std::string& path, at::ScalarType dtype) {
  LayoutCase job;
  job.model = load_run_config(path, {}, /*world_size=*/1).model;
  job.model.max_sequence_length = 12;
  job.dtype = dtype;
  job.steps = 6;
  job.tokens_NGS = at::arange(8 * 13, at::kLong).square().remainder(61).view({1, 8, 13}).expand({job.steps, 8, 13}).contiguous();
  job.mask_GS = at::ones({8, 12}, at::kBool);
  if (job.model.moe && job.model.moe->capacity_group.sequences > 1) job.micro_batch_size = job.global_batch_size;
  return job;
}

}  // namespace switchyard
