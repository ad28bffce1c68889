#include "training/hf_layout.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace switchyard {
namespace {

/// Collects the table; every method adds the tensors of one part.
class Table {
 public:
  Table(const ModelConfig& config, HfFamily family) : c_(config), family_(family) {}

  std::vector<HfTensor> build() {
    whole("model.embed_tokens.weight", "embedding", {c_.vocab_size, c_.hidden_size});
    for (int64_t layer = 0; layer < c_.num_layers; ++layer) add_layer(layer);
    whole("model.norm.weight", "final_norm.weight", {c_.hidden_size});
    if (!c_.tie_embeddings) whole("lm_head.weight", "head", {c_.vocab_size, c_.hidden_size});
    return std::move(tensors_);
  }

 private:
  void whole(const std::string& theirs, const std::string& ours, const std::vector<int64_t>& shape) {
    tensors_.push_back({theirs, shape, ours, shape, 0});
  }

  /// Rows [first, first + count) of a matrix or vector of ours.
  void rows(const std::string& theirs, const std::string& ours, const std::vector<int64_t>& our_shape, int64_t first, int64_t count) {
    auto shape = our_shape;
    shape[0] = count;
    tensors_.push_back({theirs, shape, ours, our_shape, our_shape.size() > 1 ? first * our_shape[1] : first});
  }

  void add_layer(int64_t layer) {
    theirs_ = "model.layers." + std::to_string(layer) + ".";
    ours_ = "layers." + std::to_string(layer) + ".";
    whole(theirs_ + "input_layernorm.weight", ours_ + "attention_norm.weight", {c_.hidden_size});
    add_attention();
    whole(theirs_ + "post_attention_layernorm.weight", ours_ + "channel_norm.weight", {c_.hidden_size});
    if (c_.is_moe_layer(layer)) {
      add_moe();
    } else {
      add_feed_forward(theirs_ + "mlp.", ours_ + "feed_forward.", c_.ffn_hidden_size);
    }
  }

  void add_attention() {
    const int64_t queries = c_.num_attention_heads * c_.head_dim, keys = c_.num_key_value_heads * c_.head_dim, all = queries + 2 * keys;
    const struct {
      const char* name;
      int64_t first, count;
    } parts[] = {{"q", 0, queries}, {"k", queries, keys}, {"v", queries + keys, keys}};
    for (const auto& part : parts) {
      const auto theirs = theirs_ + "self_attn." + part.name + "_proj.";
      rows(theirs + "weight", ours_ + "attention.qkv", {all, c_.hidden_size}, part.first, part.count);
      if (c_.qkv_bias) rows(theirs + "bias", ours_ + "attention.qkv_bias", {all}, part.first, part.count);
    }
    whole(theirs_ + "self_attn.o_proj.weight", ours_ + "attention.output", {c_.hidden_size, queries});
  }

  void add_feed_forward(const std::string& theirs, const std::string& ours, int64_t width) {
    rows(theirs + "gate_proj.weight", ours + "gate_up", {2 * width, c_.hidden_size}, 0, width);
    rows(theirs + "up_proj.weight", ours + "gate_up", {2 * width, c_.hidden_size}, width, width);
    whole(theirs + "down_proj.weight", ours + "down", {c_.hidden_size, width});
  }

  void add_moe() {
    const bool mixtral = family_ == HfFamily::kMixtral;
    const auto theirs = theirs_ + (mixtral ? "block_sparse_moe." : "mlp.");
    whole(theirs + "gate.weight", ours_ + "moe.router.weight", {c_.moe->num_experts, c_.hidden_size});
    for (int64_t e = 0; e < c_.moe->num_experts; ++e) {
      const auto expert = theirs + "experts." + std::to_string(e) + ".";
      add_expert(e, expert + (mixtral ? "w1" : "gate_proj"), expert + (mixtral ? "w3" : "up_proj"),
                 expert + (mixtral ? "w2" : "down_proj"));
    }
    if (mixtral) return;
    add_feed_forward(theirs + "shared_expert.", ours_ + "moe.shared_expert.", c_.moe->shared_expert_ffn_hidden_size);
    whole(theirs + "shared_expert_gate.weight", ours_ + "moe.shared_expert_gate", {1, c_.hidden_size});
  }

  void add_expert(int64_t e, const std::string& gate, const std::string& up, const std::string& down) {
    const int64_t E = c_.moe->num_experts, F = c_.moe->ffn_hidden_size, D = c_.hidden_size;
    tensors_.push_back({gate + ".weight", {F, D}, ours_ + "moe.experts.gate_up", {E, 2 * F, D}, (2 * e) * F * D});
    tensors_.push_back({up + ".weight", {F, D}, ours_ + "moe.experts.gate_up", {E, 2 * F, D}, (2 * e + 1) * F * D});
    tensors_.push_back({down + ".weight", {D, F}, ours_ + "moe.experts.down", {E, D, F}, e * D * F});
  }

  const ModelConfig& c_;
  HfFamily family_;
  std::string theirs_, ours_;
  std::vector<HfTensor> tensors_;
};

std::string joined(const std::vector<std::string>& reasons) {
  std::string text;
  for (const auto& reason : reasons) text += (text.empty() ? "" : ", ") + reason;
  return text;
}

/// What both MoE families lack.
std::vector<std::string> against_a_softmax_router(const MoeConfig& moe) {
  std::vector<std::string> reasons;
  if (!moe.num_experts_by_layer.empty()) reasons.push_back("model.moe.num_experts_by_layer");
  if (moe.nested_experts > 0) reasons.push_back("model.moe.nested_experts");
  if (moe.router != "top_k") reasons.push_back("model.moe.router = " + moe.router);
  if (moe.score != ScoreFunction::kSoftmax) reasons.push_back("model.moe.score is not softmax");
  if (moe.scale != 1.0) reasons.push_back("model.moe.scale");
  if (moe.apply != ApplyWeight::kOutput) reasons.push_back("model.moe.apply = input");
  if (moe.router_bias) reasons.push_back("model.moe.router_bias = true");
  if (moe.activation != Activation::kSwiglu) reasons.push_back("model.moe.activation is not swiglu");
  if (moe.expert_bias) reasons.push_back("model.moe.expert_bias = true");
  if (moe.residual) reasons.push_back("model.moe.residual = true");
  if (moe.groups > 1 && moe.group_top_k < moe.groups) reasons.push_back("model.moe.group_top_k");
  if (moe.eval_capacity_factor) reasons.push_back("model.moe.eval_capacity_factor");
  return reasons;
}

std::vector<std::string> against_mixtral(const ModelConfig& config) {
  const auto& moe = *config.moe;
  auto reasons = against_a_softmax_router(moe);
  if (config.num_moe_layers() != config.num_layers) reasons.push_back("not every block is MoE (model.moe.layers)");
  if (!moe.renormalize) reasons.push_back("model.moe.renormalize = false");
  if (moe.shared_expert_ffn_hidden_size > 0) reasons.push_back("a shared expert");
  if (config.qkv_bias) reasons.push_back("model.qkv_bias = true");
  return reasons;
}

std::vector<std::string> against_qwen2_moe(const ModelConfig& config) {
  auto reasons = against_a_softmax_router(*config.moe);
  if (config.moe->shared_expert_ffn_hidden_size == 0) reasons.push_back("no shared expert");
  if (!config.moe->shared_expert_gate) reasons.push_back("model.moe.shared_expert_gate = false");
  if (!config.qkv_bias) reasons.push_back("model.qkv_bias = false");
  return reasons;
}

void add_moe_keys(nlohmann::json& json, const ModelConfig& config, HfFamily family) {
  const auto& moe = *config.moe;
  json["num_experts_per_tok"] = moe.top_k;
  json["router_aux_loss_coef"] = moe.aux_loss_coeff.points.back().second;
  if (family == HfFamily::kMixtral) {
    json["num_local_experts"] = moe.num_experts;
    json["intermediate_size"] = moe.ffn_hidden_size;
    json["sliding_window"] = nullptr;
    return;
  }
  json["num_experts"] = moe.num_experts;
  json["moe_intermediate_size"] = moe.ffn_hidden_size;
  json["shared_expert_intermediate_size"] = moe.shared_expert_ffn_hidden_size;
  json["norm_topk_prob"] = moe.renormalize;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = nlohmann::json::array();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (!config.is_moe_layer(layer)) json["mlp_only_layers"].push_back(layer);
  }
  json["qkv_bias"] = true;
  json["use_sliding_window"] = false;
}

}  // namespace

HfFamily hf_family(const ModelConfig& config) {
  if (config.sequence_mixer != SequenceMixer::kAttention) {
    throw UserError("export: no Hugging Face layout here mixes sequences by an LSTM (model.sequence_mixer)");
  }
  if (config.activation != Activation::kSwiglu) {
    throw UserError("export: no Hugging Face layout here has feed-forwards of another kind than SwiGLU (model.activation)");
  }
  if (config.num_moe_layers() == 0) {
    if (config.qkv_bias)
      throw UserError("export: a dense model is exported as Llama, which has no biases on q, k, v alone (model.qkv_bias = true)");
    return HfFamily::kLlama;
  }
  const auto mixtral = against_mixtral(config), qwen = against_qwen2_moe(config);
  if (mixtral.empty()) return HfFamily::kMixtral;
  if (qwen.empty()) return HfFamily::kQwen2Moe;
  throw UserError("export: the model fits no Hugging Face layout exactly.\n  Mixtral does not fit: " + joined(mixtral) +
                  "\n  Qwen2-MoE does not fit: " + joined(qwen));
}

std::vector<HfTensor> hf_tensors(const ModelConfig& config, HfFamily family) {
  return Table(config, family).build();
}

nlohmann::json hf_config(const ModelConfig& config, HfFamily family, const std::string& dtype, int64_t end_of_text) {
  const struct {
    const char *type, *architecture;
  } names[] = {{"llama", "LlamaForCausalLM"}, {"mixtral", "MixtralForCausalLM"}, {"qwen2_moe", "Qwen2MoeForCausalLM"}};
  const auto& name = names[static_cast<size_t>(family)];
  nlohmann::json json = {{"architectures", {name.architecture}},
                         {"model_type", name.type},
                         {"vocab_size", config.vocab_size},
                         {"hidden_size", config.hidden_size},
                         {"intermediate_size", config.ffn_hidden_size},
                         {"num_hidden_layers", config.num_layers},
                         {"num_attention_heads", config.num_attention_heads},
                         {"num_key_value_heads", config.num_key_value_heads},
                         {"head_dim", config.head_dim},
                         {"max_position_embeddings", config.max_sequence_length},
                         {"rms_norm_eps", config.norm_eps},
                         {"hidden_act", "silu"},
                         {"initializer_range", config.init_std},
                         {"tie_word_embeddings", config.tie_embeddings},
                         {"attention_dropout", 0.0},
                         {"rope_theta", config.rope_theta},
                         {"rope_scaling", nullptr},
                         {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", config.rope_theta}}},
                         {"dtype", dtype},
                         {"torch_dtype", dtype},
                         {"bos_token_id", nullptr},
                         {"eos_token_id", nullptr},
                         {"pad_token_id", nullptr},
                         {"use_cache", true}};
  if (end_of_text >= 0) json["bos_token_id"] = json["eos_token_id"] = end_of_text;
  if (family == HfFamily::kLlama) {
    json["attention_bias"] = false;
    json["mlp_bias"] = false;
  } else {
    add_moe_keys(json, config, family);
  }
  return json;
}

}  // namespace switchyard
