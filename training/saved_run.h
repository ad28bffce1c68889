// A trained model read back: for evaluation, generation and export.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "parallel/process_mesh.h"
#include "training/model_instance.h"
#include "training/run_config.h"

namespace switchyard {

/// A checkpoint and the configuration that it was made with.
struct SavedRun {
  RunConfig config;
  std::filesystem::path checkpoint;
  int64_t step = 0;
  std::string precision;  ///< that it was trained in
};

/// `path`: a run folder (its newest verified checkpoint) or a checkpoint folder (.../checkpoints/step-N). Overrides as for training.
/// Errors: UserError when neither is there.
SavedRun open_saved_run(const std::filesystem::path& path, const std::vector<std::string>& overrides);

/// The model with the checkpoint's weights and no optimizer state, in the precision of `run.config` (`auto`: that of the training).
/// local_rank: among the ranks of this machine; says which GPU it stands on.
ModelInstance load_model(const SavedRun& run, const ProcessMesh& mesh, int64_t local_rank = 0);

}  // namespace switchyard
