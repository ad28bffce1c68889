#include "core/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/routing/routing_rule.h"

namespace switchyard {
namespace {

std::string known_routing_rules() {
  std::string names;
  for (const auto& [name, rule] : routing_rules()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

/// Elements of all tensors, by the parts that the totals differ in. `Number` is double where overflow is to be found out.
template <class Number>
struct SizeParts {
  Number embedding = 0;        ///< one table of vocab_size x hidden_size
  Number shared_matrices = 0;  ///< matrices that every token meets: attention, dense feed-forward, routers, shared experts
  Number vectors = 0;          ///< norms and biases
  Number one_expert = 0;       ///< of one MoE layer
  Number num_moe_layers = 0;
};

template <class Number>
SizeParts<Number> count_parts(const ModelConfig& config) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  SizeParts<Number> parts;
  const Number hidden = n(config.hidden_size);
  const Number query = n(config.num_attention_heads) * n(config.head_dim);
  const Number key_value = n(config.num_key_value_heads) * n(config.head_dim);
  parts.embedding = n(config.vocab_size) * hidden;
  parts.num_moe_layers = n(config.num_moe_layers());
  const Number num_layers = n(config.num_layers);
  const Number num_dense_layers = num_layers - parts.num_moe_layers;
  parts.shared_matrices =
      num_layers * (2 * hidden * query + 2 * hidden * key_value) + num_dense_layers * 3 * hidden * n(config.ffn_hidden_size);
  parts.vectors = (2 * num_layers + 1) * hidden;
  if (config.qkv_bias) parts.vectors += num_layers * (query + 2 * key_value);
  if (config.moe) {
    const MoeConfig& moe = *config.moe;
    const Number gate = moe.shared_expert_gate ? hidden : 0;
    parts.one_expert = 3 * hidden * n(moe.ffn_hidden_size);
    parts.shared_matrices +=
        parts.num_moe_layers * (hidden * n(moe.num_experts) + 3 * hidden * n(moe.shared_expert_ffn_hidden_size) + gate);
  }
  return parts;
}

template <class Number>
Number count_total(const ModelConfig& config) {
  const auto parts = count_parts<Number>(config);
  const Number num_experts = config.moe ? static_cast<Number>(config.moe->num_experts) : 0;
  return parts.embedding * (config.tie_embeddings ? 1 : 2) + parts.shared_matrices + parts.vectors +
         parts.num_moe_layers * num_experts * parts.one_expert;
}

/// Elements of the matrices that one token is multiplied with; the embedding is a look-up, the head a product.
int64_t count_active_matrices(const ModelConfig& config) {
  const auto parts = count_parts<int64_t>(config);
  const int64_t top_k = config.moe ? config.moe->top_k : 0;
  return parts.embedding + parts.shared_matrices + parts.num_moe_layers * top_k * parts.one_expert;
}

std::string number(int64_t value) {
  return std::to_string(value);
}

/// Collects faults of one model.
class ModelChecks {
 public:
  explicit ModelChecks(const ModelConfig& config) : config_(config) {}

  std::vector<ConfigFault> run() {
    check_sizes();
    check_attention();
    if (config_.moe) {
      check_experts(*config_.moe);
      check_routing(*config_.moe);
      check_moe_layers(config_.moe->layers);
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
    if (!config_.moe) return;
    check_positive("model.moe.num_experts", config_.moe->num_experts);
    check_positive("model.moe.top_k", config_.moe->top_k);
    check_positive("model.moe.ffn_hidden_size", config_.moe->ffn_hidden_size);
  }

  void check_attention() {
    const int64_t heads = config_.num_attention_heads;
    const int64_t groups = config_.num_key_value_heads;
    if (heads > 0 && groups > 0 && heads % groups != 0) {
      add("model.num_attention_heads",
          "is not divisible by model.num_key_value_heads = " + number(groups) + "; let each key-value head serve equally many query heads",
          {"model.num_key_value_heads"});
    }
    if (config_.head_dim % 2 != 0) {
      add("model.head_dim", "is odd; rotary embeddings turn pairs, use an even number", {"model.hidden_size", "model.num_attention_heads"});
    }
  }

  void check_experts(const MoeConfig& moe) {
    if (moe.top_k > moe.num_experts) {
      add("model.moe.top_k",
          "is larger than model.moe.num_experts = " + number(moe.num_experts) + "; use at most " + number(moe.num_experts),
          {"model.moe.num_experts"});
    }
    if (moe.shared_expert_ffn_hidden_size < 0) add("model.moe.shared_expert_ffn_hidden_size", "is negative; use 0 (none) or a width");
    if (moe.shared_expert_gate && moe.shared_expert_ffn_hidden_size == 0) {
      add("model.moe.shared_expert_gate", "has no shared expert to gate; set model.moe.shared_expert_ffn_hidden_size or remove the gate",
          {"model.moe.shared_expert_ffn_hidden_size"});
    }
  }

  void check_routing(const MoeConfig& moe) {
    if (!routing_rules().contains(moe.router)) add("model.moe.router", "is not a known routing rule; use " + known_routing_rules());
    if (moe.top_k == 1 && moe.renormalize) {
      add("model.moe.renormalize", "makes the only weight of model.moe.top_k = 1 always 1, so that the router learns nothing; use false",
          {"model.moe.top_k"});
    }
    if (moe.aux_loss_form == AuxLossForm::kHuggingFace && moe.aux_loss_scope == AuxLossScope::kSequence) {
      add("model.moe.aux_loss_form",
          "pools all tokens and does not go with model.moe.aux_loss_scope = sequence; use the scope global_batch or the form megatron",
          {"model.moe.aux_loss_scope"});
    }
    if (moe.capacity_factor && !(*moe.capacity_factor > 0))
      add("model.moe.capacity_factor", "is not positive; use a factor above 0, or null to drop nothing");
    if (moe.capacity_group.sequences < 0)
      add("model.moe.capacity_group", "is negative; use {sequences: n} with n of 1 or more, or micro_batch");
    if (!(moe.input_jitter >= 0 && moe.input_jitter < 1)) add("model.moe.input_jitter", "is out of range; use 0 or more, less than 1");
  }

  void check_moe_layers(const MoeLayers& layers) {
    const std::string key = "model.moe.layers";
    const std::string blocks = "model.num_layers = " + number(config_.num_layers);
    const std::vector<std::string> other_keys = {"model.num_layers"};
    if (layers.kind == MoeLayers::Kind::kList) {
      const auto& list = layers.list;
      const bool ascends = std::ranges::adjacent_find(list, std::greater_equal<>()) == list.end();
      if (list.empty()) return add(key, "is empty; name at least one block, or remove model.moe for a dense model");
      if (!ascends) return add(key, "is not ascending; write each block once, the smallest first");
      if (list.front() < 0 || list.back() >= config_.num_layers)
        add(key, "names a block outside " + blocks + "; use 0 to " + number(config_.num_layers - 1), other_keys);
      return;
    }
    const bool every = layers.kind == MoeLayers::Kind::kEvery;
    const int64_t least = every ? 1 : 0;
    const int64_t most = every ? config_.num_layers : config_.num_layers - 1;
    if (layers.count >= least && layers.count <= most) return;
    add(key, "leaves no block of " + blocks + " with experts; use n from " + number(least) + " to " + number(most), other_keys);
  }

  void check_parameter_count() {
    constexpr double kMostParameters = 9e18;
    if (count_total<double>(config_) <= kMostParameters) return;
    add("model.hidden_size", "gives more than 9e18 parameters together with the other sizes; check them for a digit too many");
  }

  const ModelConfig& config_;
  std::vector<ConfigFault> faults_;
};

}  // namespace

bool MoeLayers::contains(int64_t layer) const {
  switch (kind) {
    case Kind::kEvery:
      return (layer + 1) % count == 0;
    case Kind::kFirstDense:
      return layer >= count;
    case Kind::kList:
      break;
  }
  return std::ranges::binary_search(list, layer);
}

int64_t ModelConfig::num_moe_layers() const {
  int64_t count = 0;
  for (int64_t layer = 0; layer < num_layers; ++layer) count += is_moe_layer(layer);
  return count;
}

std::vector<ConfigFault> find_faults(const ModelConfig& config) {
  return ModelChecks(config).run();
}

ParameterCounts count_parameters(const ModelConfig& config) {
  const auto parts = count_parts<int64_t>(config);
  ParameterCounts counts;
  counts.total = count_total<int64_t>(config);
  counts.active_without_embedding = count_active_matrices(config) + parts.vectors;
  counts.active = counts.active_without_embedding + (config.tie_embeddings ? 0 : parts.embedding);
  return counts;
}

double training_flops_per_token(const ModelConfig& config, int64_t sequence_length) {
  // A token of a causal sequence looks at half of it on average; scores and weighted values are two products of that size.
  const double query_size = static_cast<double>(config.num_attention_heads) * static_cast<double>(config.head_dim);
  const double attention = static_cast<double>(config.num_layers) * 2.0 * query_size * static_cast<double>(sequence_length) / 2.0;
  const double forward = 2.0 * (static_cast<double>(count_active_matrices(config)) + attention);
  return 3.0 * forward;
}

}  // namespace switchyard
