// How many parameters a model has and what a token costs, from its shape alone.
#include <algorithm>
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

/// Matrices and vectors of grouped-query attention.
template <class Number>
void add_attention(SizeParts<Number>& parts, const ModelConfig& config) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  const Number hidden = n(config.hidden_size), head = n(config.head_dim);
  const Number query = n(config.num_attention_heads) * head, key_value = n(config.num_key_value_heads) * head;
  parts.shared_matrices += 2 * hidden * query + 2 * hidden * key_value;
  if (config.qkv_bias) parts.vectors += query + 2 * key_value;
  if (config.attention.output_bias) parts.vectors += hidden;
  if (config.attention.sinks) parts.vectors += n(config.num_attention_heads);
  if (config.attention.qk_norm == QkNorm::kHead) parts.vectors += 2 * head;
  if (config.attention.qk_norm == QkNorm::kWhole) parts.vectors += query + key_value;
}

template <class Number>
void add_latent_attention(SizeParts<Number>& parts, const ModelConfig& config) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  const auto& attention = config.attention;
  const Number hidden = n(config.hidden_size), heads = n(config.num_attention_heads), latent = n(attention.kv_lora_rank);
  const Number key = n(attention.qk_nope_head_dim), rope = n(attention.qk_rope_head_dim), value = n(attention.v_head_dim);
  const Number q_rank = n(attention.q_lora_rank), query_rows = heads * (key + rope);
  parts.shared_matrices += q_rank > 0 ? hidden * q_rank + q_rank * query_rows : hidden * query_rows;
  parts.shared_matrices += hidden * (latent + rope) + latent * heads * (key + value) + heads * value * hidden;
  parts.vectors += q_rank + latent;  // norms
  if (config.qkv_bias) parts.vectors += q_rank + latent + rope;
  if (attention.output_bias) parts.vectors += hidden;
}

template <class Number>
void add_sequence_mixer(SizeParts<Number>& parts, const ModelConfig& config) {
  if (config.sequence_mixer == SequenceMixer::kLstm) {
    const auto hidden = static_cast<Number>(config.hidden_size);
    parts.shared_matrices += 8 * hidden * hidden;
    parts.vectors += 4 * hidden;
  } else if (config.attention.is_latent()) {
    add_latent_attention(parts, config);
  } else {
    add_attention(parts, config);
  }
}

/// config: as the block sees it.
template <class Number>
void add_block(SizeParts<Number>& parts, const ModelConfig& config) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  const Number hidden = n(config.hidden_size);
  add_sequence_mixer(parts, config);
  parts.vectors += 2 * hidden;
  if (config.moe) return add_moe_layer(parts, hidden, *config.moe);
  parts.shared_matrices += feed_forward_size<Number>(hidden, n(config.ffn_hidden_size), config.activation);
  if (config.ffn_bias) parts.vectors += n(up_width(config.activation, config.ffn_hidden_size)) + hidden;
}

/// The model without its blocks of multi-token prediction.
template <class Number>
SizeParts<Number> count_parts(const ModelConfig& config) {
  SizeParts<Number> parts;
  parts.embedding = static_cast<Number>(config.vocab_size) * static_cast<Number>(config.hidden_size);
  parts.vectors = static_cast<Number>(config.hidden_size);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) add_block(parts, config.at_layer(layer));
  return parts;
}

/// The blocks of multi-token prediction; their `embedding` are the heads that they use, which are the model's own.
template <class Number>
SizeParts<Number> count_prediction_parts(const ModelConfig& config) {
  const auto n = [](int64_t value) { return static_cast<Number>(value); };
  const Number hidden = n(config.hidden_size), depths = n(config.mtp_layers);
  SizeParts<Number> parts;
  parts.embedding = depths * n(config.vocab_size) * hidden;
  parts.shared_matrices = depths * 2 * hidden * hidden;
  parts.vectors = depths * 3 * hidden;
  for (int64_t layer = config.num_layers; layer < config.num_blocks(); ++layer) add_block(parts, config.at_layer(layer));
  return parts;
}

/// What a model needs to hold for it.
template <class Number>
Number count_prediction(const ModelConfig& config) {
  const auto parts = count_prediction_parts<Number>(config);
  return parts.shared_matrices + parts.vectors + parts.experts;
}

template <class Number>
Number count_total(const ModelConfig& config) {
  const auto parts = count_parts<Number>(config);
  return parts.embedding * (config.tie_embeddings ? 1 : 2) + parts.shared_matrices + parts.vectors + parts.experts +
         count_prediction<Number>(config);
}

/// Elements of the matrices that one token is multiplied with; the embedding is a look-up, the head a product.
int64_t count_active_matrices(const SizeParts<int64_t>& parts) {
  return parts.embedding + parts.shared_matrices + parts.active_experts;
}

/// Tokens that one token of a causal sequence looks at on average, as a block of this kind sees it.
double mean_span(const AttentionConfig& attention, int64_t sequence_length) {
  const auto length = static_cast<double>(sequence_length);
  if (!attention.full_layers.is_none()) return length / 2.0;
  double span = length / 2.0;
  if (attention.chunk > 0) span = std::min(span, static_cast<double>(attention.chunk) / 2.0);
  const auto window = std::min(static_cast<double>(attention.window), length);
  if (attention.window > 0) span = std::min(span, window - window * window / (2.0 * length));
  return span;
}

/// Multiply-adds of scores and weighted values for one token, in all blocks.
double attention_products(const ModelConfig& config, int64_t sequence_length) {
  if (config.sequence_mixer != SequenceMixer::kAttention) return 0.0;
  const auto width = static_cast<double>(config.num_attention_heads * (config.qk_head_dim() + config.v_head_dim()));
  double spans = 0.0;
  for (int64_t layer = 0; layer < config.num_blocks(); ++layer) spans += mean_span(config.at_layer(layer).attention, sequence_length);
  return width * spans;
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
  counts.prediction = count_prediction<int64_t>(config);
  counts.active_without_embedding = count_active_matrices(parts) + parts.vectors;
  counts.active = counts.active_without_embedding + (config.tie_embeddings ? 0 : parts.embedding);
  return counts;
}

double training_flops_per_token(const ModelConfig& config, int64_t sequence_length) {
  const int64_t matrices =
      count_active_matrices(count_parts<int64_t>(config)) + count_active_matrices(count_prediction_parts<int64_t>(config));
  const double forward = 2.0 * (static_cast<double>(matrices) + attention_products(config, sequence_length));
  return 3.0 * forward;
}

}  // namespace switchyard
