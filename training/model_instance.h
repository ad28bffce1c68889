// A model as one rank holds it: modules, their flat storage, and how both go to and from checkpoints.
#pragma once

#include <memory>
#include <string>

#include "core/transformer.h"
#include "parallel/gradient_sync.h"
#include "parallel/process_mesh.h"
#include "training/checkpoint.h"
#include "training/run_config.h"

namespace switchyard {

struct ModelInstance {
  Transformer transformer{nullptr};
  std::unique_ptr<ParameterStore> store;
  std::unique_ptr<GradientSync> gradient_sync;  ///< null without optimizer state
  std::string all_to_all;                       ///< which one carries the tokens and why, for the log; empty where none is needed
};

/// Builds the model with this rank's experts and initial weights by `seed`. run_options: run dtype and device. with_optimizer_state: false
/// for evaluation and generation, where nothing is computed again either. Collective over the mesh: the ranks agree on the all-to-all.
/// Errors: UserError, the same on every rank, where parallel.all_to_all cannot be had.
ModelInstance build_model(const ModelConfig& config, const ParallelConfig& parallel, const ProcessMesh& mesh,
                          const at::TensorOptions& run_options, uint64_t seed, bool with_optimizer_state,
                          Recompute recompute = Recompute::kNone);

/// The pieces that this rank writes: master weights and buffers ("model.NAME"), moments ("exp_avg.NAME", "exp_avg_sq.NAME"). What several
/// ranks hold is written once: with ZeRO-1 every rank writes its part, otherwise the ranks share the tensors out; the lead rank has the
/// buffers.
std::vector<TensorPiece> checkpoint_pieces(ModelInstance& model, const ProcessMesh& mesh);

/// Fills the model from a checkpoint of any layout. Errors: UserError when a tensor is missing or has another shape, or the checkpoint
/// holds a model tensor that this model lacks. Moments are read when the store has them.
void load_checkpoint(ModelInstance& model, const CheckpointReader& checkpoint);

}  // namespace switchyard
