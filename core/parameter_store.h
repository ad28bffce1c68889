// All weights of this rank in flat storage: weights, gradients and optimizer state each one buffer a group, so that a reduction, the
// optimizer and a checkpoint see one piece of memory and copy nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// One parameter of the model as a module declares it.
struct NamedParameter {
  std::string name;          ///< global, the same on every layout: "layers.3.moe.experts.gate_up"
  at::Tensor tensor;         ///< leaf that the modules use; its storage moves into the store
  bool decays = true;        ///< weight decay applies (not to norms and biases)
  int64_t num_experts = 0;   ///< > 0: dimension 0 counts experts; how many the whole model has
  int64_t first_expert = 0;  ///< the global number of the first one held here
};

/// Where a parameter lies in its group's flat buffers. Starts are multiples of 64 bytes; the gaps hold zeros.
struct ParameterSlot {
  std::string name;
  std::vector<int64_t> shape;  ///< as held here
  int64_t offset = 0;          ///< elements
  int64_t numel = 0;
  bool decays = true;
  int64_t num_experts = 0;
  int64_t first_expert = 0;

  std::vector<int64_t> global_shape() const;
};

/// Parameters that are reduced over the same ranks. In bf16 runs `master` is a second, fp32 copy; otherwise it is the weights themselves.
struct ParameterGroup {
  std::vector<ParameterSlot> slots;  ///< those that decay first
  int64_t decaying_numel = 0;        ///< elements before the first slot that does not decay
  at::Tensor weights;
  at::Tensor master;
  at::Tensor gradients;   ///< master's dtype
  at::Tensor exp_avg;     ///< AdamW's first moment
  at::Tensor exp_avg_sq;  ///< AdamW's second moment

  /// One slot of one of the buffers above, in the slot's shape.
  static at::Tensor view(const at::Tensor& buffer, const ParameterSlot& slot);
};

class ParameterStore {
 public:
  /// Moves the parameters' values into flat storage of dtype `run_dtype` on `device` and makes every parameter a view of it. Gradients of
  /// fp32 and fp64 runs are views of the flat buffer; in bf16 runs a hook adds each into the fp32 buffer and frees it.
  /// with_optimizer_state: false for evaluation and generation (no gradients, no moments).
  ParameterStore(std::vector<NamedParameter> parameters, at::ScalarType run_dtype, at::Device device, bool with_optimizer_state);
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  ParameterGroup& dense() { return groups_[0]; }
  ParameterGroup& experts() { return groups_[1]; }
  std::array<ParameterGroup, 2>& groups() { return groups_; }

  void zero_gradients();
  /// After the optimizer: the bf16 weights from their master copies. Nothing to do in fp32 and fp64.
  void refresh_weights();
  int64_t numel() const;
  at::Device device() const { return groups_[0].weights.device(); }

 private:
  std::array<ParameterGroup, 2> groups_;
  std::vector<at::Tensor> parameters_;
};

}  // namespace switchyard
