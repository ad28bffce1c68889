#include "training/routing_record.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/routing/routing_rule.h"
#include "training/durable_file.h"
#include "training/joint_failure.h"

namespace switchyard {
namespace {

constexpr const char* kNumExpertsKey = "num_experts";

std::string tensor_name(int64_t layer) {
  return "layer." + std::to_string(layer);
}

std::vector<int64_t> layer_shape(const ChoiceShape& shape) {
  return {shape.global_batch_size, shape.sequence_length, shape.num_choices};
}

at::ScalarType dtype_of(const ChoiceShape& shape) {
  return std::ranges::max(shape.num_experts) <= std::numeric_limits<int16_t>::max() ? at::kShort : at::kInt;
}

/// "8", or "8, 16, 8" where layers differ.
std::string num_experts_text(const ChoiceShape& shape) {
  const bool all_equal = std::ranges::adjacent_find(shape.num_experts, std::ranges::not_equal_to()) == shape.num_experts.end();
  return all_equal ? std::to_string(shape.num_experts.front()) : fmt::format("{}", fmt::join(shape.num_experts, ", "));
}

int64_t num_experts_of(const ChoiceShape& shape, int64_t layer) {
  return shape.num_experts.at(std::ranges::find(shape.moe_layers, layer) - shape.moe_layers.begin());
}

/// Errors: UserError that names the file and both values.
void check_is_of_this_run(const SafetensorsFile& file, const std::string& path, const ChoiceShape& shape) {
  const auto refuse = [&](const std::string& problem) {
    throw UserError(fmt::format("routing.replay: {}: {}; replay a record of the same model and batch", path, problem));
  };
  const auto found = file.metadata().find(kNumExpertsKey);
  if (found == file.metadata().end()) refuse("does not say num_experts, so it is not a record of choices");
  if (found->second != num_experts_text(shape)) {
    refuse(fmt::format("recorded with num_experts = {}, this run has {}", found->second, num_experts_text(shape)));
  }
  if (file.entries().size() != shape.moe_layers.size()) {
    refuse(fmt::format("recorded with {} MoE layers, this run has {}", file.entries().size(), shape.moe_layers.size()));
  }
  for (const int64_t layer : shape.moe_layers) {
    const auto entry = file.entries().find(tensor_name(layer));
    if (entry == file.entries().end()) refuse(fmt::format("holds nothing of MoE layer {} of this run", layer));
    if (entry->second.shape != layer_shape(shape)) {
      refuse(fmt::format("{} holds [samples, tokens, choices a token] = {}, this run has {}", entry->first, entry->second.shape,
                         layer_shape(shape)));
    }
    if (entry->second.dtype != dtype_of(shape)) refuse(entry->first + " is not of the integer type of a record");
  }
}

/// Errors: RunError for a choice that no router makes.
void check_choices(const at::Tensor& expert_BSK, const ChoiceShape& shape, int64_t num_experts, const std::string& place) {
  const int64_t highest = shape.may_go_nowhere ? num_experts : num_experts - 1;
  const auto outside = (expert_BSK < 0).logical_or(expert_BSK > highest);
  if (outside.any().item<bool>()) {
    throw RunError(
        fmt::format("{}: names expert {}, there are {}", place, expert_BSK.masked_select(outside)[0].item<int64_t>(), num_experts));
  }
  const auto sorted_BSK = std::get<0>(expert_BSK.sort(-1));
  const auto is_twice = (sorted_BSK.diff(1, -1) == 0).logical_and(sorted_BSK.narrow(-1, 1, sorted_BSK.size(-1) - 1) < num_experts);
  if (is_twice.any().item<bool>()) throw RunError(place + ": a token chooses an expert twice");
}

}  // namespace

ChoiceShape choice_shape(const ModelConfig& model, int64_t global_batch_size, int64_t sequence_length) {
  const bool may_go_nowhere = routing_rules().at(model.moe->router).fills_capacity;
  ChoiceShape shape{model.moe_layers(), global_batch_size, sequence_length, num_choices(*model.moe), {}, may_go_nowhere};
  for (const int64_t layer : shape.moe_layers) shape.num_experts.push_back(model.num_experts_at(layer));
  return shape;
}

std::filesystem::path choices_file(const std::filesystem::path& folder, int64_t step) {
  return folder / fmt::format("step-{}.safetensors", step);
}

RoutingRecorder::RoutingRecorder(std::filesystem::path folder, ChoiceShape shape, CommunicatorPtr world,
                                 std::shared_ptr<RoutingTrace> source)
    : folder_(std::move(folder)), shape_(std::move(shape)), world_(std::move(world)), source_(std::move(source)) {
  if (world_->rank() == 0) create_folder_durably(folder_);
}

at::Tensor RoutingRecorder::choices(const TokenContext& context, const std::function<at::Tensor()>& choose) {
  const auto expert_TK = source_ ? source_->choices(context, choose) : choose();
  const auto samples_B = context.global_sample_B.to(at::kCPU);
  const auto expert_BSK = expert_TK.detach()
                              .to(at::dtype(dtype_of(shape_)).device(at::kCPU))
                              .reshape({samples_B.size(0), shape_.sequence_length, shape_.num_choices});
  for (int64_t b = 0; b < samples_B.size(0); ++b) choices_[context.layer][samples_B[b].item<int64_t>()] = expert_BSK[b];
  return expert_TK;
}

void RoutingRecorder::write(int64_t step) {
  const auto first_layer = choices_.find(shape_.moe_layers.front());
  TORCH_CHECK(first_layer != choices_.end(), "routing.record: nothing was routed in step ", step);
  std::vector<int64_t> samples;
  for (const auto& [sample, choice] : first_layer->second) samples.push_back(sample);
  const auto samples_WB = world_->all_gather(at::tensor(samples, at::kLong));
  TORCH_CHECK(at::equal(std::get<0>(samples_WB.flatten().sort()), at::arange(shape_.global_batch_size)), "routing.record: step ", step,
              " routed other samples than the global batch's ", shape_.global_batch_size);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const int64_t layer : shape_.moe_layers) tensors.emplace_back(tensor_name(layer), gather_layer(layer, samples_WB));
  choices_.clear();
  succeed_or_fail_together(*world_, [&] {
    if (world_->rank() != 0) return;
    write_safetensors(choices_file(folder_, step), tensors, {{kNumExpertsKey, num_experts_text(shape_)}});
  });
}

at::Tensor RoutingRecorder::gather_layer(int64_t layer, const at::Tensor& samples_WB) const {
  std::vector<at::Tensor> choices;
  for (const auto& [sample, choice_SK] : choices_.at(layer)) choices.push_back(choice_SK);
  const auto mine_BSK = at::stack(choices);
  std::vector<int64_t> send_rows(world_->size(), 0), receive_rows(world_->size(), 0);
  send_rows[0] = mine_BSK.size(0);
  if (world_->rank() == 0) receive_rows.assign(world_->size(), mine_BSK.size(0));
  auto shape = layer_shape(shape_);
  if (world_->rank() != 0) shape[0] = 0;
  const auto arrived_GSK = at::empty(shape, mine_BSK.options());
  world_->all_to_all(mine_BSK, send_rows, arrived_GSK, receive_rows)->wait();
  if (world_->rank() != 0) return arrived_GSK;
  return at::empty_like(arrived_GSK).index_copy_(0, samples_WB.flatten(), arrived_GSK);
}

void RoutingReplay::check_steps(int64_t first, int64_t last) const {
  if (first > last) return;
  if (!std::filesystem::is_directory(folder_)) {
    throw UserError("routing.replay: " + folder_.string() + " is not a folder; name one that routing.record has filled");
  }
  for (int64_t step = first; step <= last; ++step) {
    const auto path = choices_file(folder_, step);
    if (std::filesystem::exists(path)) continue;
    throw UserError(
        fmt::format("routing.replay: {} is missing, this run needs steps {} to {}; record that many", path.string(), first, last));
  }
  open(first);
}

at::Tensor RoutingReplay::choices(const TokenContext& context, const std::function<at::Tensor()>& /*choose*/) {
  if (open_step_ != context.step) {
    try {
      file_.emplace(open(context.step));
    } catch (const UserError& error) {
      throw RunError(error.what());
    }
    open_step_ = context.step;
  }
  const auto name = tensor_name(context.layer);
  const auto& entry = file_->entries().at(name);
  const auto samples_B = context.global_sample_B.to(at::kCPU);
  const int64_t B = samples_B.size(0);
  const auto expert_BSK = at::empty({B, shape_.sequence_length, shape_.num_choices}, entry.dtype);
  const auto place = fmt::format("routing.replay: {}: {}", choices_file(folder_, context.step).string(), name);
  const size_t sample_bytes = static_cast<size_t>(entry.length / shape_.global_batch_size);
  for (int64_t b = 0; b < B; ++b) {
    const auto sample = samples_B[b].item<int64_t>();
    TORCH_CHECK(sample >= 0 && sample < shape_.global_batch_size, place, ": there is no sample ", sample);
    std::memcpy(expert_BSK[b].mutable_data_ptr(), file_->bytes(entry) + static_cast<size_t>(sample) * sample_bytes, sample_bytes);
  }
  check_choices(expert_BSK, shape_, num_experts_of(shape_, context.layer), place);
  return expert_BSK.to(at::kLong).view({B * shape_.sequence_length, shape_.num_choices}).to(context.global_sample_B.device());
}

SafetensorsFile RoutingReplay::open(int64_t step) const {
  const auto path = choices_file(folder_, step);
  SafetensorsFile file(path);
  check_is_of_this_run(file, path.string(), shape_);
  return file;
}

}  // namespace switchyard
