#include "core/parameter_store.h"

#include <map>

#include "core/dtypes.h"

namespace switchyard {
namespace {

constexpr int64_t kAlignmentBytes = 64;

int64_t aligned(int64_t elements, at::ScalarType dtype) {
  const int64_t multiple = kAlignmentBytes / static_cast<int64_t>(c10::elementSize(dtype));
  return (elements + multiple - 1) / multiple * multiple;
}

/// Adds a bf16 gradient into its fp32 place and frees it: a bf16 leaf cannot hold an fp32 gradient itself.
class AddIntoWideGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit AddIntoWideGradient(at::Tensor wide_gradient) : wide_gradient_(std::move(wide_gradient)) {}
  void operator()(const torch::autograd::Variable& parameter) override {
    at::NoGradGuard no_grad;
    wide_gradient_.add_(parameter.grad());
    parameter.mutable_grad().reset();
  }

 private:
  at::Tensor wide_gradient_;
};

/// Offsets by the run dtype's alignment serve the wider buffers too: an offset that is a multiple of 64 bytes in bf16 is one in fp32.
void lay_out(ParameterGroup& group, const std::vector<const NamedParameter*>& members, at::ScalarType run_dtype, at::Device device) {
  int64_t offset = 0;
  for (const bool decays : {true, false}) {
    for (const auto* parameter : members) {
      if (parameter->decays != decays) continue;
      const auto& tensor = parameter->tensor;
      group.slots.push_back(
          {parameter->name, tensor.sizes().vec(), offset, tensor.numel(), decays, parameter->num_experts, parameter->first_expert});
      offset += aligned(tensor.numel(), run_dtype);
    }
    if (decays) group.decaying_numel = offset;
  }
  const auto wide = wide_dtype(run_dtype);
  group.master = at::zeros({offset}, at::dtype(wide).device(device));
  group.weights = wide == run_dtype ? group.master : at::zeros({offset}, at::dtype(run_dtype).device(device));
}

}  // namespace

std::vector<int64_t> ParameterSlot::global_shape() const {
  auto global = shape;
  if (num_experts > 0) global[0] = num_experts;
  return global;
}

at::Tensor ParameterGroup::view(const at::Tensor& buffer, const ParameterSlot& slot) {
  return buffer.narrow(0, slot.offset, slot.numel).view(slot.shape);
}

ParameterStore::ParameterStore(std::vector<NamedParameter> parameters, at::ScalarType run_dtype, at::Device device,
                               bool with_optimizer_state) {
  at::NoGradGuard no_grad;
  std::map<std::string, const NamedParameter*> by_name;
  std::array<std::vector<const NamedParameter*>, 2> members;
  for (const auto& parameter : parameters) {
    by_name[parameter.name] = &parameter;
    members[parameter.num_experts > 0 ? 1 : 0].push_back(&parameter);
    parameters_.push_back(parameter.tensor);
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    auto& group = groups_[g];
    lay_out(group, members[g], run_dtype, device);
    if (with_optimizer_state) {
      group.gradients = at::zeros_like(group.master);
      group.exp_avg = at::zeros_like(group.master);
      group.exp_avg_sq = at::zeros_like(group.master);
    }
    for (const auto& slot : group.slots) {
      auto tensor = by_name.at(slot.name)->tensor;
      ParameterGroup::view(group.master, slot).copy_(tensor);
      tensor.set_data(ParameterGroup::view(group.weights, slot));
      tensor.set_requires_grad(with_optimizer_state);
      if (!with_optimizer_state) continue;
      const auto gradient = ParameterGroup::view(group.gradients, slot);
      if (run_dtype == gradient.scalar_type()) {
        tensor.mutable_grad() = gradient;
      } else {
        torch::autograd::impl::set_post_acc_grad_hooks(tensor, std::make_unique<AddIntoWideGradient>(gradient));
      }
    }
  }
  refresh_weights();
}

void ParameterStore::zero_gradients() {
  for (auto& group : groups_) group.gradients.zero_();
}

void ParameterStore::refresh_weights() {
  at::NoGradGuard no_grad;
  for (auto& group : groups_) {
    if (!group.weights.is_same(group.master)) group.weights.copy_(group.master);
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
