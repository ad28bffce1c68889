// How many parameters a model has and what a token costs, from its shape alone.
#include <utility>

#include "core/activation.h"
#include "core/model_config.h"
#include "core/routing/routing_rule.h"

namespace switchyard {
namespace {

/// Elements of the two matrices of a feed-forward.
template <class Number>
Number feed_forward_size(Number hidden, Number width, Activation activation) {
  return (is_gated(activation) ? 3 : 2) * hidden * width;
}

/// Elements of an expert, and those of them that one row meets.
template <class Number>
std::pair<Number, Number> expert_sizes(Number hidden, const MoeConfig& moe) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  Number plain = feed_forward_size<Number>(hidden, n(moe.ffn_hidden_size), moe.activation);
  if (moe.expert_bias) plain += n(up_width(moe.activation, moe.ffn_hidden_size)) + hidden;
  if (moe.nested_experts == 0) return {plain, plain};
  const Number gate = n(moe.nested_experts) * hidden;
  return {gate + n(moe.nested_experts) * plain, gate + n(moe.nested_top_k) * plain};
}

/// Rows of all the router's maps.
template <class Number>
Number count_router_rows(const MoeConfig& moe) {
  const auto& maps = routing_rules().at(moe.router).maps;
  const auto rows = (maps.experts ? static_cast<Number>(moe.num_experts) : 0) + (maps.groups ? static_cast<Number>(moe.groups) : 0);
  return rows * (maps.noise ? 2 : 1);
}

/// Elements of all tensors, by the parts that the totals differ in. `Number` is double where overflow is to be found out.
template <class Number>
struct SizeParts {
  Number embedding = 0;        ///< one table of vocab_size x hidden_size
  Number shared_matrices = 0;  ///< matrices that every token meets: attention, dense feed-forward, routers, shared experts
  Number vectors = 0;          ///< norms and biases
  Number experts = 0;          ///< all of them
  Number active_experts = 0;   ///< those that one token visits
};

/// What an MoE layer adds. `moe`: as the layer's block sees it.
template <class Number>
void add_moe_layer(SizeParts<Number>& parts, Number hidden, const MoeConfig& moe) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  const auto [expert, active_expert] = expert_sizes(hidden, moe);
  const Number gates = (moe.shared_expert_gate ? hidden : 0) + (moe.residual ? 2 * hidden : 0);
  const Number shared = feed_forward_size<Number>(hidden, n(moe.shared_expert_ffn_hidden_size), moe.activation);
  parts.shared_matrices += hidden * count_router_rows<Number>(moe) + shared + gates;
  if (moe.router_bias) parts.vectors += n(moe.num_experts);
  parts.experts += n(moe.num_experts) * expert;
  parts.active_experts += n(moe.top_k) * active_expert;
}

template <class Number>
SizeParts<Number> count_parts(const ModelConfig& config) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  SizeParts<Number> parts;
  const Number hidden = n(config.hidden_size);
  const Number query = n(config.num_attention_heads) * n(config.head_dim);
  const Number key_value = n(config.num_key_value_heads) * n(config.head_dim);
  parts.embedding = n(config.vocab_size) * hidden;
  const Number num_layers = n(config.num_layers);
  const Number num_dense_layers = num_layers - n(config.num_moe_layers());
  const bool recurrent = config.sequence_mixer == SequenceMixer::kLstm;
  parts.shared_matrices = num_layers * (recurrent ? 8 * hidden * hidden : 2 * hidden * query + 2 * hidden * key_value) +
                          num_dense_layers * feed_forward_size<Number>(hidden, n(config.ffn_hidden_size), config.activation);
  parts.vectors = (2 * num_layers + 1) * hidden;
  if (recurrent) parts.vectors += num_layers * 4 * hidden;
  if (config.qkv_bias) parts.vectors += num_layers * (query + 2 * key_value);
  for (const int64_t layer : config.moe_layers()) add_moe_layer(parts, hidden, *config.at_layer(layer).moe);
  return parts;
}

template <class Number>
Number count_total(const ModelConfig& config) {
  const auto parts = count_parts<Number>(config);
  return parts.embedding * (config.tie_embeddings ? 1 : 2) + parts.shared_matrices + parts.vectors + parts.experts;
}

/// Elements of the matrices that one token is multiplied with; the embedding is a look-up, the head a product.
int64_t count_active_matrices(const ModelConfig& config) {
  const auto parts = count_parts<int64_t>(config);
  return parts.embedding + parts.shared_matrices + parts.active_experts;
}

}  // namespace

bool has_countable_size(const ModelConfig& config) {
  constexpr double kMostParameters = 9e18;
  return count_total<double>(config) <= kMostParameters;
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
  const double layers = config.sequence_mixer == SequenceMixer::kAttention ? static_cast<double>(config.num_layers) : 0.0;
  const double attention = layers * 2.0 * query_size * static_cast<double>(sequence_length) / 2.0;
  const double forward = 2.0 * (static_cast<double>(count_active_matrices(config)) + attention);
  return 3.0 * forward;
}

}  // namespace switchyard
