#include <algorithm>

#include "core/attention_checks.h"
#include "core/model_config.h"
#include "core/routing/routing_checks.h"

namespace switchyard {
namespace {

std::string number(int64_t value) {
  return std::to_string(value);
}

/// Collects faults of one model.
class ModelChecks {
 public:
  explicit ModelChecks(const ModelConfig& config) : config_(config) {}

  std::vector<ConfigFault> run() {
    check_sizes();
    std::ranges::move(find_attention_faults(config_), std::back_inserter(faults_));
    if (config_.moe) {
      check_experts(*config_.moe);
      check_nested(*config_.moe);
      std::ranges::move(find_routing_faults(*config_.moe), std::back_inserter(faults_));
      check_moe_layers(config_.moe->layers);
      if (faults_.empty()) check_experts_by_layer(*config_.moe);
    }
    // Only good sizes can be counted.
    if (faults_.empty()) check_parameter_count();
    return std::move(faults_);
  }

 private:
  void add(std::string key, std::string problem, std::vector<std::string> other_keys = {}) {
    faults_.push_back({std::move(key), std::move(problem), std::move(other_keys)});
  }

  void check_positive(const std::string& key, int64_t value) {
    if (value < 1) add(key, "is not positive; use 1 or more");
  }

  void check_sizes() {
    check_positive("model.vocab_size", config_.vocab_size);
    check_positive("model.num_layers", config_.num_layers);
    check_positive("model.hidden_size", config_.hidden_size);
    check_positive("model.ffn_hidden_size", config_.ffn_hidden_size);
    check_positive("model.num_attention_heads", config_.num_attention_heads);
    check_positive("model.num_key_value_heads", config_.num_key_value_heads);
    check_positive("model.head_dim", config_.head_dim);
    check_positive("model.max_sequence_length", config_.max_sequence_length);
    if (config_.mtp_layers < 0) add("model.mtp_layers", "is negative; use 0 (none) or how many tokens further on are predicted");
    if (!config_.moe) return;
    check_positive("model.moe.num_experts", config_.moe->num_experts);
    check_positive("model.moe.top_k", config_.moe->top_k);
    check_positive("model.moe.ffn_hidden_size", config_.moe->ffn_hidden_size);
  }

  void check_experts(const MoeConfig& moe) {
    if (moe.top_k > moe.num_experts) {
      add("model.moe.top_k",
          "is larger than model.moe.num_experts = " + number(moe.num_experts) + "; use at most " + number(moe.num_experts),
          {"model.moe.num_experts"});
    }
    if (moe.shared_expert_ffn_hidden_size < 0) add("model.moe.shared_expert_ffn_hidden_size", "is negative; use 0 (none) or a width");
    if (moe.residual && moe.shared_expert_ffn_hidden_size == 0) {
      add("model.moe.residual", "has nothing to mix the experts with; set model.moe.shared_expert_ffn_hidden_size, or use false",
          {"model.moe.shared_expert_ffn_hidden_size"});
    }
    if (moe.residual && moe.shared_expert_gate) {
      add("model.moe.residual", "weighs the shared expert already; use model.moe.shared_expert_gate: false",
          {"model.moe.shared_expert_gate"});
    }
    if (!(moe.expert_dropout >= 0.0 && moe.expert_dropout < 1.0)) {
      add("model.moe.expert_dropout", "is out of range; use 0 or more, less than 1");
    }
    if (moe.shared_expert_gate && moe.shared_expert_ffn_hidden_size == 0) {
      add("model.moe.shared_expert_gate", "has no shared expert to gate; set model.moe.shared_expert_ffn_hidden_size or remove the gate",
          {"model.moe.shared_expert_ffn_hidden_size"});
    }
  }

  void check_nested(const MoeConfig& moe) {
    if (moe.nested_experts < 0 || moe.nested_experts == 1) {
      add("model.moe.nested_experts", "leaves the gate inside an expert nothing to choose; use 0 (plain experts) or 2 and more");
    }
    if (moe.nested_experts > 1 && (moe.nested_top_k < 1 || moe.nested_top_k > moe.nested_experts)) {
      add("model.moe.nested_top_k", "is out of range; use 1 to model.moe.nested_experts = " + number(moe.nested_experts),
          {"model.moe.nested_experts"});
    }
    if (moe.nested_experts == 0 && !moe.nested_loss_coeff.is_zero()) {
      add("model.moe.nested_loss_coeff", "has no gates inside experts to balance; set model.moe.nested_experts, or use 0",
          {"model.moe.nested_experts"});
    }
  }

  /// Every block with its own number of experts obeys the same rules.
  void check_experts_by_layer(const MoeConfig& moe) {
    const std::string key = "model.moe.num_experts_by_layer";
    if (!moe.num_experts_by_layer.empty() && moe.aux_loss_form == AuxLossForm::kHuggingFace) {
      add("model.moe.aux_loss_form", "pools the layers, which must have equally many experts; use the form megatron", {key});
    }
    for (const auto& [layer, num_experts] : moe.num_experts_by_layer) {
      const std::string place = "gives block " + number(layer) + " " + number(num_experts) + " experts";
      if (layer < 0 || layer >= config_.num_blocks() || !config_.is_moe_layer(layer)) {
        add(key, "names block " + number(layer) + ", which is no MoE layer; name blocks of model.moe.layers", {"model.moe.layers"});
        continue;
      }
      MoeConfig block = *config_.at_layer(layer).moe;
      block.num_experts_by_layer.clear();
      ModelConfig alone = config_;
      alone.moe = block;
      for (const auto& fault : find_faults(alone)) add(key, place + ": " + fault.key + " " + fault.problem, fault.other_keys);
    }
  }

  void check_moe_layers(const LayerSet& layers) {
    const std::string key = "model.moe.layers";
    const std::string blocks = "model.num_layers = " + number(config_.num_layers);
    const std::vector<std::string> other_keys = {"model.num_layers"};
    if (layers.kind == LayerSet::Kind::kList) {
      const auto& list = layers.list;
      const bool ascends = std::ranges::adjacent_find(list, std::greater_equal<>()) == list.end();
      if (list.empty()) return add(key, "is empty; name at least one block, or remove model.moe for a dense model");
      if (!ascends) return add(key, "is not ascending; write each block once, the smallest first");
      if (list.front() < 0 || list.back() >= config_.num_layers)
        add(key, "names a block outside " + blocks + "; use 0 to " + number(config_.num_layers - 1), other_keys);
      return;
    }
    const bool every = layers.kind == LayerSet::Kind::kEvery;
    const int64_t least = every ? 1 : 0;
    const int64_t most = every ? config_.num_layers : config_.num_layers - 1;
    if (layers.count >= least && layers.count <= most) return;
    add(key, "leaves no block of " + blocks + " with experts; use n from " + number(least) + " to " + number(most), other_keys);
  }

  void check_parameter_count() {
    if (has_countable_size(config_)) return;
    add("model.hidden_size", "gives more than 9e18 parameters together with the other sizes; check them for a digit too many");
  }

  const ModelConfig& config_;
  std::vector<ConfigFault> faults_;
};

}  // namespace

std::vector<ConfigFault> find_faults(const ModelConfig& config) {
  return ModelChecks(config).run();
}

}  // namespace switchyard
