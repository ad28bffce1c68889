#include "core/parameter_store.h"

#include <algorithm>

#include "core/alignment.h"
#include "core/dtypes.h"
#include "core/gradient_room.h"
#include "core/kernels/addition_kernels.h"

namespace switchyard {
namespace {

/// Runs when a parameter's gradient is complete. Adds a bf16 one into its fp32 place and frees it: a bf16 leaf cannot hold an fp32 gradient
/// itself. Then tells the listener.
class GradientArrival : public GradientRoom {
 public:
  GradientArrival(at::Tensor wide_gradient, std::function<void()> tell)
      : wide_gradient_(std::move(wide_gradient)), tell_(std::move(tell)) {}
  void operator()(const torch::autograd::Variable& parameter) override {
    at::NoGradGuard no_grad;
    if (parameter.scalar_type() != wide_gradient_.scalar_type() && parameter.grad().defined()) {
      kernels::add_to(wide_gradient_, parameter.grad());
      parameter.mutable_grad().reset();
    }
    tell_();
  }
  const at::Tensor& sum() const override { return wide_gradient_; }

 private:
  at::Tensor wide_gradient_;
  std::function<void()> tell_;
};

struct Member {
  const NamedParameter* parameter;
  int64_t order;
};

/// Fills slots and returns the number of elements. Offsets by the run dtype's alignment serve the wider buffers too: an offset that is a
/// multiple of 64 bytes in bf16 is one in fp32.
int64_t lay_out(ParameterGroup& group, const std::vector<Member>& members, at::ScalarType run_dtype) {
  group.alignment = alignment_of(run_dtype);
  int64_t offset = 0;
  for (const bool decays : {true, false}) {
    for (const auto& [parameter, order] : members) {
      if (parameter->decays != decays) continue;
      const auto& tensor = parameter->tensor;
      group.slots.push_back(
          {parameter->name, tensor.sizes().vec(), offset, tensor.numel(), decays, parameter->num_experts, parameter->first_expert, order});
      offset += aligned_numel(tensor.numel(), run_dtype);
    }
    if (decays) group.decaying_numel = offset;
  }
  return offset;
}

void allocate(ParameterGroup& group, int64_t numel, const at::TensorOptions& run_options, bool with_optimizer_state, const Shard& shard) {
  const auto run_dtype = c10::typeMetaToScalarType(run_options.dtype()), wide = wide_dtype(run_dtype);
  const auto wide_options = run_options.dtype(wide);
  group.weights = at::zeros({numel}, run_options);
  group.num_shards = shard.count;
  group.state = group.part(shard);
  const int64_t held = group.state.numel();
  group.master = wide == run_dtype ? ParameterGroup::of_whole(group.weights, group.state) : at::zeros({held}, wide_options);
  if (!with_optimizer_state) return;
  group.gradients = at::zeros({numel}, wide_options);
  group.exp_avg = at::zeros({held}, wide_options);
  group.exp_avg_sq = at::zeros({held}, wide_options);
}

}  // namespace

FlatRange intersection(const FlatRange& a, const FlatRange& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

std::vector<int64_t> ParameterSlot::global_shape() const {
  auto global = shape;
  if (num_experts > 0) global[0] = num_experts;
  return global;
}

at::Tensor ParameterGroup::view(const at::Tensor& buffer, const ParameterSlot& slot) {
  return buffer.narrow(0, slot.offset, slot.numel).view(slot.shape);
}

FlatRange ParameterGroup::part(const Shard& shard) const {
  const int64_t units = weights.numel() / alignment;
  return {units * shard.index / shard.count * alignment, units * (shard.index + 1) / shard.count * alignment};
}

ParameterStore::ParameterStore(const std::vector<NamedParameter>& parameters, at::ScalarType run_dtype, at::Device device,
                               bool with_optimizer_state, const std::array<Shard, 2>& shards) {
  at::NoGradGuard no_grad;
  std::array<std::vector<Member>, 2> members;
  for (const auto& parameter : parameters) {
    members[parameter.num_experts > 0 ? 1 : 0].push_back({&parameter, static_cast<int64_t>(parameters_.size())});
    parameters_.push_back(parameter.tensor);
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t numel = lay_out(groups_[g], members[g], run_dtype);
    allocate(groups_[g], numel, at::dtype(run_dtype).device(device), with_optimizer_state, shards[g]);
    for (size_t s = 0; s < groups_[g].slots.size(); ++s) adopt(parameters_[groups_[g].slots[s].order], g, s);
  }
}

void ParameterStore::adopt(const at::Tensor& parameter, size_t group_index, size_t slot_index) {
  auto& group = groups_[group_index];
  const auto& slot = group.slots[slot_index];
  const auto values = parameter.flatten();
  ParameterGroup::of_whole(group.weights, slot.range()).copy_(values);
  if (const auto held = intersection(slot.range(), group.state); group.has_own_master() && held.numel() > 0) {
    group.of_state(group.master, held).copy_(values.narrow(0, held.begin - slot.offset, held.numel()));
  }
  parameter.set_data(ParameterGroup::view(group.weights, slot));
  parameter.set_requires_grad(group.gradients.defined());
  if (!group.gradients.defined()) return;
  const auto gradient = ParameterGroup::view(group.gradients, slot);
  if (!group.has_own_master()) parameter.mutable_grad() = gradient;
  auto tell = [listener = listener_, group_index, slot_index] {
    if (*listener) (*listener)(group_index, slot_index);
  };
  torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<GradientArrival>(gradient, std::move(tell)));
}

void ParameterStore::zero_gradients() {
  for (auto& group : groups_) group.gradients.zero_();
}

void ParameterStore::refresh_weights() {
  at::NoGradGuard no_grad;
  for (auto& group : groups_) {
    if (group.has_own_master()) ParameterGroup::of_whole(group.weights, group.state).copy_(group.master);
  }
}

int64_t ParameterStore::numel() const {
  int64_t sum = 0;
  for (const auto& group : groups_) {
    for (const auto& slot : group.slots) sum += slot.numel;
  }
  return sum;
}

}  // namespace switchyard
