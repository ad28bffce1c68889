// The routers' choices of a run on disk: written down step by step, or taken over from another run.
// One file a step, FOLDER/step-N.safetensors. It holds, for each MoE layer L, the tensor "layer.L" [global batch, S, K]: the experts that
// each token of each global sample chose, first choice first, before drops. So a record is the same for every layout. int16, or int32 where
// expert numbers need it; __metadata__ says num_experts, layer by layer where they differ.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/routing/routing_trace.h"
#include "parallel/communicator.h"
#include "training/run_config.h"
#include "training/safetensors.h"

namespace switchyard {

/// What a step's choices look like.
struct ChoiceShape {
  std::vector<int64_t> moe_layers;
  int64_t global_batch_size = 0;
  int64_t sequence_length = 0;
  int64_t num_choices = 0;           ///< of a token
  std::vector<int64_t> num_experts;  ///< of each of moe_layers
  bool may_go_nowhere = false;       ///< a choice may be the layer's num_experts: nobody took the token
};
ChoiceShape choice_shape(const ModelConfig& model, int64_t global_batch_size, int64_t sequence_length);

std::filesystem::path choices_file(const std::filesystem::path& folder, int64_t step);

/// Writes a run's choices down. A sample that is routed twice in a step (the forward that counts first) is written once.
class RoutingRecorder : public RoutingTrace {
 public:
  /// `source`: where choices come from; null = the routers make them. The folder is created. Errors: RunError (rank 0) when it cannot be.
  RoutingRecorder(std::filesystem::path folder, ChoiceShape shape, CommunicatorPtr world, std::shared_ptr<RoutingTrace> source = nullptr);

  at::Tensor choices(const TokenContext& context, const std::function<at::Tensor()>& choose) override;

  /// Gathers the step's choices and lets rank 0 write them: the file is complete or not there. To be called after every step.
  /// Collective. Errors: JointFailure when it cannot be written.
  void write(int64_t step);

 private:
  at::Tensor gather_layer(int64_t layer, const at::Tensor& samples_WB) const;

  std::filesystem::path folder_;
  ChoiceShape shape_;
  CommunicatorPtr world_;
  std::shared_ptr<RoutingTrace> source_;
  std::map<int64_t, std::map<int64_t, at::Tensor>> choices_;  ///< by layer and global sample: [S, K] on the CPU
};

/// Gives the routers a recorded run's choices. Reads no more than the samples it is asked for.
class RoutingReplay : public RoutingTrace {
 public:
  RoutingReplay(std::filesystem::path folder, ChoiceShape shape) : folder_(std::move(folder)), shape_(std::move(shape)) {}

  /// Errors: UserError naming the first of the steps [first, last] that has no file, or what the first one's file has otherwise than this
  /// run.
  void check_steps(int64_t first, int64_t last) const;

  /// Errors: RunError for a file that is missing, damaged, or not this run's, with both values.
  at::Tensor choices(const TokenContext& context, const std::function<at::Tensor()>& choose) override;

 private:
  SafetensorsFile open(int64_t step) const;

  std::filesystem::path folder_;
  ChoiceShape shape_;
  int64_t open_step_ = -1;
  std::optional<SafetensorsFile> file_;  ///< of open_step_
};

}  // namespace switchyard
