// All weights of this rank in flat storage: weights, gradients and optimizer state each one buffer a group, so that a reduction, the
// optimizer and a checkpoint see one piece of memory and copy nothing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
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

/// Elements [begin, end) of a group's flat buffers.
struct FlatRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t numel() const { return end - begin; }
};
/// What both hold; where they do not meet, an empty range.
FlatRange intersection(const FlatRange& a, const FlatRange& b);

/// Part `index` of `count` of a group's flat buffers.
struct Shard {
  int64_t index = 0;
  int64_t count = 1;
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
  int64_t order = 0;  ///< among all parameters of the model, as declared

  std::vector<int64_t> global_shape() const;
  FlatRange range() const { return {offset, offset + numel}; }
};

/// Parameters that are reduced over the same ranks. In bf16 runs `master` is a second, fp32 copy; otherwise it is the weights themselves.
struct ParameterGroup {
  std::vector<ParameterSlot> slots;  ///< those that decay first
  int64_t decaying_numel = 0;        ///< elements before the first slot that does not decay
  int64_t alignment = 1;             ///< elements in 64 bytes of the run dtype; all buffers and parts are multiples of it
  at::Tensor weights;
  at::Tensor gradients;    ///< master's dtype
  int64_t num_shards = 1;  ///< ranks that share out what follows; 1 without ZeRO-1
  FlatRange state;         ///< the elements that the three below hold
  at::Tensor master;
  at::Tensor exp_avg;     ///< AdamW's first moment
  at::Tensor exp_avg_sq;  ///< AdamW's second moment

  /// One slot of one of the whole buffers, in the slot's shape.
  static at::Tensor view(const at::Tensor& buffer, const ParameterSlot& slot);
  /// `range` of one of the whole buffers.
  static at::Tensor of_whole(const at::Tensor& buffer, const FlatRange& range) { return buffer.narrow(0, range.begin, range.numel()); }
  /// `range`, which lies in `state`, of master or a moment.
  at::Tensor of_state(const at::Tensor& buffer, const FlatRange& range) const {
    return buffer.narrow(0, range.begin - state.begin, range.numel());
  }
  /// The flat buffers cut into shard.count parts, as even as multiples of the alignment can be.
  FlatRange part(const Shard& shard) const;
  bool has_own_master() const { return master.scalar_type() != weights.scalar_type(); }
  bool is_sharded() const { return num_shards > 1; }
};

/// Called when backward has added a parameter's gradient into the flat buffer: groups()[group].slots[slot].
using GradientListener = std::function<void(size_t group, size_t slot)>;

class ParameterStore {
 public:
  /// Moves the parameters' values into flat storage of dtype `run_dtype` on `device` and makes every parameter a view of it. Gradients of
  /// fp32 and fp64 runs are views of the flat buffer; in bf16 runs a hook adds each into the fp32 buffer and frees it.
  /// with_optimizer_state: false for evaluation and generation (no gradients, no moments).
  /// shards: of the dense and the expert group, the part whose master weights and moments are held here (ZeRO-1).
  ParameterStore(const std::vector<NamedParameter>& parameters, at::ScalarType run_dtype, at::Device device, bool with_optimizer_state,
                 const std::array<Shard, 2>& shards = {});
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  ParameterGroup& dense() { return groups_[0]; }
  ParameterGroup& experts() { return groups_[1]; }
  std::array<ParameterGroup, 2>& groups() { return groups_; }

  /// From now on; an empty one for none. It runs on the thread that runs backward.
  void listen_to_gradients(GradientListener listener) { *listener_ = std::move(listener); }
  void zero_gradients();
  /// After the optimizer: the bf16 weights from the master copies held here. Nothing to do in fp32 and fp64.
  void refresh_weights();
  int64_t numel() const;
  at::Device device() const { return groups_[0].weights.device(); }

 private:
  void adopt(const at::Tensor& parameter, size_t group, size_t slot);

  std::array<ParameterGroup, 2> groups_;
  std::vector<at::Tensor> parameters_;
  std::shared_ptr<GradientListener> listener_ = std::make_shared<GradientListener>();  ///< shared with the parameters' hooks
};

}  // namespace switchyard
