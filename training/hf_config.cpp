#include "training/hf_config.h"

#include <algorithm>

#include "core/error.h"
#include "training/hf_keys.h"
#include "training/hf_moe_keys.h"
#include "training/hf_rope.h"

namespace switchyard {
namespace {

constexpr const char* kPlace = "config.json: ";

/// Of every family; none of it changes what is computed in fp32.
void ignore_what_computes_nothing(HfKeys& keys) {
  keys.ignore({"model_type", "transformers_version", "_name_or_path", "auto_map", "dtype", "torch_dtype", "use_cache", "pretraining_tp"});
  keys.ignore({"bos_token_id", "eos_token_id", "pad_token_id", "output_router_logits", "output_attentions", "output_hidden_states"});
  keys.ignore(
      {"return_dict", "problem_type", "id2label", "label2id", "chunk_size_feed_forward", "_attn_implementation", "cache_implementation"});
}

void check_class(HfKeys& keys, const HfClass& hf) {
  const std::string key = "architectures";
  if (keys.has(key) && std::ranges::count(keys.texts(key), hf.architecture) == 0) {
    keys.refuse(key, "the weights are not of " + std::string(hf.architecture) + ", the only class of this family that is read here");
  }
  if (keys.has("quantization_config")) {
    keys.refuse("quantization_config", "quantized weights are not read here; save the model in bfloat16 or float32 first");
  }
  keys.expect("hidden_act", "silu", "the feed-forwards of this family are read with silu only");
  keys.expect("attention_dropout", 0.0, "there is no dropout on attention here; use 0");
  keys.expect("is_encoder_decoder", false, "only decoders are read here");
}

void read_sizes(HfKeys& keys, const HfClass& hf, ModelConfig& model) {
  model.vocab_size = keys.natural("vocab_size");
  model.num_layers = keys.natural("num_hidden_layers");
  model.hidden_size = keys.natural("hidden_size");
  const bool is_llama4 = hf.family == HfFamily::kLlama4Text;
  model.ffn_hidden_size = keys.natural(is_llama4 ? "intermediate_size_mlp" : "intermediate_size");
  model.max_sequence_length = keys.natural("max_position_embeddings");
  model.norm_eps = keys.number("rms_norm_eps", hf.norm_eps);
  model.norm_placement = hf.norms_outputs ? NormPlacement::kPost : NormPlacement::kPre;
  model.init_std = keys.number("initializer_range", 0.02);
  model.tie_embeddings = keys.flag("tie_word_embeddings", false);
  model.num_attention_heads = keys.natural("num_attention_heads");
  if (model.num_attention_heads < 1) keys.refuse("num_attention_heads", "is not positive");
}

void read_heads(HfKeys& keys, const HfClass& hf, ModelConfig& model) {
  const std::string groups = "num_key_value_heads";
  const bool is_null = keys.names(groups) && !keys.has(groups);
  const int64_t otherwise = is_null ? model.num_attention_heads : hf.key_value_heads.value_or(model.num_attention_heads);
  model.num_key_value_heads = keys.natural(groups, otherwise);
  model.head_dim = keys.natural("head_dim", hf.head_dim.value_or(model.hidden_size / model.num_attention_heads));
  model.attention.qk_norm = hf.qk_norm;
  const auto family = hf.family;
  if (family == HfFamily::kMistral || family == HfFamily::kMixtral) return;
  if (family == HfFamily::kQwen2Moe) {
    model.qkv_bias = keys.flag("qkv_bias", true);
    return;
  }
  model.qkv_bias = model.attention.output_bias = keys.flag("attention_bias", family == HfFamily::kGptOss);
  if (family == HfFamily::kLlama) model.ffn_bias = keys.flag("mlp_bias", false);
}

void read_latent_attention(HfKeys& keys, ModelConfig& model) {
  keys.ignore({"head_dim", "qk_head_dim"});  // transformers 5 writes them, and never reads them
  auto& attention = model.attention;
  attention.kv_lora_rank = keys.natural("kv_lora_rank", 512);
  const bool is_null = keys.names("q_lora_rank") && !keys.has("q_lora_rank");
  attention.q_lora_rank = is_null ? 0 : keys.natural("q_lora_rank", 1536);
  attention.qk_nope_head_dim = keys.natural("qk_nope_head_dim", 128);
  attention.qk_rope_head_dim = keys.natural("qk_rope_head_dim", 64);
  attention.v_head_dim = keys.natural("v_head_dim", 128);
  model.num_key_value_heads = model.num_attention_heads;
  keys.expect("num_key_value_heads", model.num_attention_heads, "in latent attention every head has keys and values of its own");
  model.head_dim = attention.qk_nope_head_dim + attention.qk_rope_head_dim;
  model.qkv_bias = attention.output_bias = keys.flag("attention_bias", false);
  keys.expect("mlp_bias", false, "the experts of this family have no biases here");
}

/// Names the blocks that satisfy `is_inside`.
template <class Predicate>
LayerSet blocks_where(const ModelConfig& model, Predicate is_inside) {
  auto blocks = LayerSet::none();
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    if (is_inside(layer)) blocks.list.push_back(layer);
  }
  return blocks;
}

/// Which blocks see everything: those that layer_types calls full_attention, or, without it, `is_full_by_default`.
template <class Predicate>
LayerSet full_blocks(HfKeys& keys, const ModelConfig& model, const std::string& limited_type, Predicate is_full_by_default) {
  const std::string key = "layer_types";
  if (!keys.has(key)) {
    keys.ignore({"layer_types"});
    return blocks_where(model, is_full_by_default);
  }
  const auto types = keys.texts(key);
  if (static_cast<int64_t>(types.size()) != model.num_layers) keys.refuse(key, "does not name one type for each of num_hidden_layers");
  for (const auto& type : types) {
    if (type != "full_attention" && type != limited_type) keys.refuse(key, "only full_attention and " + limited_type + " are known here");
  }
  return blocks_where(model, [&](int64_t layer) { return types[static_cast<size_t>(layer)] == "full_attention"; });
}

void limit(AttentionConfig& attention, int64_t AttentionConfig::*limit, int64_t tokens, const ModelConfig& model, LayerSet full) {
  if (static_cast<int64_t>(full.list.size()) == model.num_layers) return;  // nobody is limited
  attention.*limit = tokens;
  attention.full_layers = std::move(full);
}

void read_window(HfKeys& keys, const HfClass& hf, ModelConfig& model) {
  using enum HfFamily;
  const std::string key = "sliding_window";
  const bool is_null = keys.names(key) && !keys.has(key);
  const bool is_qwen = hf.family == kQwen2Moe || hf.family == kQwen3Moe || hf.family == kQwen3;
  if (is_qwen && !keys.flag("use_sliding_window", false)) {
    keys.ignore({"sliding_window", "max_window_layers", "layer_types"});
    return;
  }
  if (is_null || (hf.family == kMixtral && !keys.has(key))) {
    keys.ignore({"sliding_window", "max_window_layers", "layer_types"});
    return;
  }
  const int64_t window = keys.natural(key, hf.family == kGptOss ? 128 : 4096);
  if (window < 1) keys.refuse(key, "a token sees itself at least; use 1 or more, or null");
  auto full = LayerSet::none();
  if (hf.family == kQwen3 || hf.family == kQwen2Moe) {
    const int64_t boundary = keys.natural("max_window_layers", 28);
    full = full_blocks(keys, model, "sliding_attention",
                       [&](int64_t layer) { return hf.family == kQwen3 ? layer < boundary : layer % 2 == 1 || layer >= boundary; });
  } else if (hf.family == kGptOss) {
    full = full_blocks(keys, model, "sliding_attention", [](int64_t layer) { return layer % 2 == 1; });
  }
  keys.ignore({"max_window_layers"});
  limit(model.attention, &AttentionConfig::window, window, model, std::move(full));
}

/// Llama 4: blocks without positions, chunks in the others, queries scaled by their place.
void read_llama4_attention(HfKeys& keys, ModelConfig& model) {
  auto& attention = model.attention;
  const int64_t interval = keys.natural("no_rope_layer_interval", 4);
  const std::string key = "no_rope_layers";
  std::vector<int64_t> rotates = keys.has(key) ? keys.naturals(key) : std::vector<int64_t>();
  if (rotates.empty()) {
    if (interval < 1) keys.refuse("no_rope_layer_interval", "is not positive");
    for (int64_t layer = 0; layer < model.num_layers; ++layer) rotates.push_back((layer + 1) % interval != 0 ? 1 : 0);
  }
  if (static_cast<int64_t>(rotates.size()) != model.num_layers) keys.refuse(key, "does not say 0 or 1 for each of num_hidden_layers");
  attention.nope_layers = blocks_where(model, [&](int64_t layer) { return rotates[static_cast<size_t>(layer)] == 0; });
  const auto nope = static_cast<int64_t>(attention.nope_layers.list.size());
  if (!keys.flag("use_qk_norm", true) || nope == model.num_layers) attention.qk_norm = QkNorm::kNone;
  const bool scales = keys.flag("attn_temperature_tuning", true);
  const double scale = keys.number("attn_scale", 0.1);
  const int64_t floor = keys.natural("floor_scale", 8192);
  if (scales && nope > 0) attention.temperature_scale = scale, attention.temperature_floor = floor;
  const std::string chunk = "attention_chunk_size";
  auto full = full_blocks(keys, model, "chunked_attention", [&](int64_t layer) { return attention.nope_layers.contains(layer); });
  if (keys.names(chunk) && !keys.has(chunk)) full = blocks_where(model, [](int64_t) { return true; });
  limit(attention, &AttentionConfig::chunk, keys.natural(chunk, 8192), model, std::move(full));
}

void read_attention(HfKeys& keys, const HfClass& hf, ModelConfig& model) {
  using enum HfFamily;
  const bool is_latent = hf.family == kDeepseekV2 || hf.family == kDeepseekV3;
  if (is_latent) {
    read_latent_attention(keys, model);
  } else {
    read_heads(keys, hf, model);
  }
  model.rope.interleaved = hf.family == kDeepseekV3 ? keys.flag("rope_interleave", true) : hf.interleaves_rope;
  read_rope(keys, hf, model);
  switch (hf.family) {
    case kMistral:
    case kMixtral:
    case kQwen2Moe:
    case kQwen3Moe:
    case kQwen3:
    case kGptOss:
      read_window(keys, hf, model);
      break;
    case kLlama4Text:
      read_llama4_attention(keys, model);
      break;
    case kOlmoe:
      if (keys.has("clip_qkv")) model.attention.clip_qkv = keys.number("clip_qkv", 0.0);
      break;
    default:
      break;
  }
  if (hf.family == kGptOss) model.attention.sinks = true;
}

void refuse_faults(const HfClass& hf, const ModelConfig& model) {
  std::string text;
  for (const auto& fault : find_faults(model)) text += "\n  " + fault.key + " " + fault.problem;
  if (!text.empty()) throw UserError(kPlace + std::string(hf.model_type) + ": the model that it describes cannot be built here:" + text);
}

}  // namespace

HfModel read_hf_config(const nlohmann::json& config) {
  HfKeys keys(config, kPlace);
  if (!keys.has("model_type")) throw UserError("config.json: model_type is missing; it says which family the model is of");
  const auto& hf = hf_class(keys.text("model_type", ""));
  ModelConfig model;
  ignore_what_computes_nothing(keys);
  check_class(keys, hf);
  read_sizes(keys, hf, model);
  read_attention(keys, hf, model);
  read_moe(keys, hf, model);
  keys.refuse_others(hf.model_type);
  refuse_faults(hf, model);
  return {hf.family, std::move(model)};
}

}  // namespace switchyard
