#include "training/run_config_checks.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>

#include "core/routing/routing_rule.h"
#include "training/config_schema.h"
#include "training/tokenizer.h"

namespace switchyard {
namespace {

std::string number(int64_t value) {
  return std::to_string(value);
}

std::vector<int64_t> divisors(int64_t value) {
  std::vector<int64_t> small;
  std::vector<int64_t> large;
  for (int64_t i = 1; i * i <= value; ++i) {
    if (value % i != 0) continue;
    small.push_back(i);
    if (i * i != value) large.insert(large.begin(), value / i);
  }
  small.insert(small.end(), large.begin(), large.end());
  return small;
}

/// "1, 2, 4, 8", of long lists only the ends.
std::string list_numbers(const std::vector<int64_t>& values) {
  constexpr size_t kShown = 12;
  std::vector<std::string> texts;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values.size() > kShown && i == kShown - 1) texts.push_back("...");
    if (values.size() <= kShown || i < kShown - 1 || i + 1 == values.size()) texts.push_back(number(values[i]));
  }
  return join(texts);
}

/// "4 or 8": the multiples of `step` around `value`.
std::string nearest_multiples(int64_t value, int64_t step) {
  const int64_t below = value / step * step;
  return below == 0 ? number(step) : number(below) + " or " + number(below + step);
}

class RunChecks {
 public:
  RunChecks(const RunConfig& config, int64_t world_size) : config_(config), world_size_(world_size) {}

  std::vector<ConfigFault> run() {
    check_expert_degree();
    check_execution();
    check_routing_record();
    if (world_size_ > 0) check_batch();
    check_capacity_group();
    check_sequences();
    check_steps();
    check_sources();
    check_name();
    return std::move(faults_);
  }

 private:
  void add(std::string key, std::string problem, std::vector<std::string> other_keys = {}) {
    faults_.push_back({std::move(key), std::move(problem), std::move(other_keys)});
  }

  /// The greatest number of ranks that can share out the experts of every block.
  int64_t shareable_experts() const {
    int64_t experts = config_.model.moe ? config_.model.moe->num_experts : 1;
    for (const int64_t layer : config_.model.moe_layers()) experts = std::gcd(experts, config_.model.num_experts_at(layer));
    return experts;
  }

  std::vector<int64_t> valid_expert_degrees() const {
    std::vector<int64_t> degrees = divisors(shareable_experts());
    if (world_size_ > 0) std::erase_if(degrees, [&](int64_t degree) { return world_size_ % degree != 0; });
    return degrees;
  }

  void check_expert_degree() {
    const int64_t degree = config_.parallel.expert;
    const std::string key = "parallel.expert";
    const std::string valid = list_numbers(valid_expert_degrees());
    if (!config_.model.moe) {
      if (degree > 1) add(key, "has no experts to share out in a dense model; use 1, or add a section model.moe");
      return;
    }
    const int64_t experts = config_.model.moe->num_experts;
    if (experts % degree != 0) {
      add("model.moe.num_experts",
          "is not divisible by parallel.expert = " + number(degree) + "; use " + nearest_multiples(experts, degree) +
              " experts, or parallel.expert " + valid,
          {key});
    }
    for (const auto& [layer, number_of_experts] : config_.model.moe->num_experts_by_layer) {
      if (number_of_experts % degree == 0) continue;
      add("model.moe.num_experts_by_layer",
          "gives block " + number(layer) + " " + number(number_of_experts) + " experts, which parallel.expert = " + number(degree) +
              " ranks cannot share out; use parallel.expert " + valid,
          {key});
    }
    if (world_size_ > 0 && world_size_ % degree != 0) {
      add(key,
          "does not divide the number of ranks, " + number(world_size_) + "; start " + nearest_multiples(world_size_, degree) +
              " ranks, or use parallel.expert " + valid,
          {"model.moe.num_experts"});
    }
  }

  /// Of all MoE layers.
  int64_t fewest_experts() const {
    int64_t fewest = config_.model.moe->num_experts;
    for (const auto& [layer, number_of_experts] : config_.model.moe->num_experts_by_layer) fewest = std::min(fewest, number_of_experts);
    return fewest;
  }

  void check_execution() {
    const auto& moe = config_.model.moe;
    if (!moe && config_.training.recompute == Recompute::kMoe) {
      add("training.recompute", "has no MoE layers to compute again in a dense model; use none or block");
    }
    const std::string key = "parallel.dispatch_chunks";
    const int64_t chunks = config_.parallel.dispatch_chunks, degree = config_.parallel.expert;
    if (!moe) {
      if (chunks > 1) add(key, "has no experts to send rows to in a dense model; use 1");
    } else if (const int64_t fewest = fewest_experts(); fewest % degree == 0 && chunks > fewest / degree) {
      add(key, "is more than the experts of a rank, of which a chunk holds one or more; use at most " + number(fewest / degree),
          {"model.moe.num_experts", "parallel.expert"});
    }
  }

  void check_routing_record() {
    const auto& [record, replay] = config_.routing;
    if (!config_.model.moe && record) add("routing.record", "has no routers to record in a dense model; remove it");
    if (!config_.model.moe && replay) add("routing.replay", "has no routers to give choices to in a dense model; remove it");
    if (record && replay && std::filesystem::path(*record).lexically_normal() == std::filesystem::path(*replay).lexically_normal()) {
      add("routing.record", "is the folder that routing.replay reads; name another one", {"routing.replay"});
    }
  }

  void check_batch() {
    const int64_t global = config_.training.global_batch_size;
    const int64_t micro = config_.training.micro_batch_size;
    if (global < 1 || micro < 1 || global % (micro * world_size_) == 0) return;
    std::string advice = "use " + nearest_multiples(global, micro * world_size_);
    if (global % world_size_ == 0) advice += ", or training.micro_batch_size " + list_numbers(divisors(global / world_size_));
    add("training.global_batch_size",
        "is not divisible by training.micro_batch_size x ranks = " + number(micro) + " x " + number(world_size_) + " = " +
            number(micro * world_size_) + "; " + advice,
        {"training.micro_batch_size"});
  }

  void check_capacity_group() {
    const auto& moe = config_.model.moe;
    if (!moe || moe->capacity_group.sequences < 1) return;
    const auto rule = routing_rules().find(moe->router);
    const bool compares_tokens = rule != routing_rules().end() && rule->second.compares_tokens;
    if (!moe->capacity_factor && !compares_tokens) return;
    const int64_t micro = config_.training.micro_batch_size;
    if (micro % moe->capacity_group.sequences == 0) return;
    add("model.moe.capacity_group",
        "does not divide training.micro_batch_size = " + number(micro) + "; use {sequences: n} with n one of " +
            list_numbers(divisors(micro)),
        {"training.micro_batch_size", "model.moe.capacity_factor"});
  }

  void check_sequences() {
    if (config_.sequence_length() > config_.model.max_sequence_length) {
      add("data.sequence_length",
          "is longer than model.max_sequence_length = " + number(config_.model.max_sequence_length) +
              "; shorten it or let the model be longer",
          {"model.max_sequence_length"});
    }
    if (config_.data.format == DataFormat::kText && config_.model.vocab_size < kByteVocabSize) {
      add("model.vocab_size", "is too small for the byte tokenizer of data.format = text; use " + number(kByteVocabSize) + " or more",
          {"data.format"});
    }
  }

  void check_steps() {
    if (config_.schedule.warmup_steps > config_.training.steps) {
      add("schedule.warmup_steps", "is more than training.steps = " + number(config_.training.steps) + "; warm up in fewer steps",
          {"training.steps"});
    }
  }

  void check_sources() {
    const auto& sources = config_.data.sources;
    bool has_held_out = false;
    for (size_t i = 0; i < sources.size(); ++i) {
      const auto is_namesake = [&](const DataSource& earlier) { return earlier.name == sources[i].name; };
      const auto first = std::find_if(sources.begin(), sources.begin() + i, is_namesake);
      if (first != sources.begin() + i) {
        const std::string first_key = source_key_name(first - sources.begin(), "name");
        add(source_key_name(i, "name"), "is the name of " + first_key + " too; give each source its own", {first_key});
      }
      const bool has_paths = !sources[i].validation_paths.empty();
      const bool has_fraction = sources[i].validation_fraction > 0;
      const std::string path_key = source_key_name(i, "validation_path");
      if (has_paths && has_fraction)
        add(source_key_name(i, "validation_fraction"), "stands beside " + path_key + "; hold out files or a fraction, not both",
            {path_key});
      has_held_out = has_held_out || has_paths || has_fraction;
    }
    if (config_.evaluation.every > 0 && !has_held_out) {
      add("evaluation.every",
          "asks for evaluations, but no source has held-out data; give one a validation_path or a validation_fraction, or use 0",
          {kSourcesKey});
    }
  }

  void check_name() {
    const std::string& name = config_.name;
    if (name == "." || name == ".." || name.find('/') != std::string::npos)
      add("name", "is not the name of a folder; use letters, digits, - and _");
  }

  const RunConfig& config_;
  int64_t world_size_;
  std::vector<ConfigFault> faults_;
};

}  // namespace

std::vector<ConfigFault> find_run_faults(const RunConfig& config, int64_t world_size) {
  return RunChecks(config, world_size).run();
}

}  // namespace switchyard
