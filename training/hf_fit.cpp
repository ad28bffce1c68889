#include "training/hf_fit.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace switchyard {
namespace {

std::string joined(const std::vector<std::string>& reasons) {
  std::string text;
  for (const auto& reason : reasons) text += (text.empty() ? "" : ", ") + reason;
  return text;
}

/// What none of the three families has outside its experts.
std::vector<std::string> against_plain_blocks(const ModelConfig& config) {
  std::vector<std::string> reasons;
  const auto refuse_if = [&](bool is_set, const char* reason) {
    if (is_set) reasons.emplace_back(reason);
  };
  refuse_if(config.sequence_mixer != SequenceMixer::kAttention, "model.sequence_mixer is not attention");
  refuse_if(config.activation != Activation::kSwiglu, "model.activation is not swiglu");
  refuse_if(config.norm_placement != NormPlacement::kPre, "model.norm_placement is not pre");
  refuse_if(config.ffn_bias, "model.ffn_bias = true");
  refuse_if(config.mtp_layers > 0, "model.mtp_layers");
  const auto& attention = config.attention;
  refuse_if(attention.is_latent(), "model.attention.kv_lora_rank");
  refuse_if(attention.output_bias, "model.attention.output_bias = true");
  refuse_if(attention.qk_norm != QkNorm::kNone, "model.attention.qk_norm");
  refuse_if(attention.clip_qkv.has_value(), "model.attention.clip_qkv");
  refuse_if(attention.sinks, "model.attention.sinks = true");
  refuse_if(attention.window > 0, "model.attention.window");
  refuse_if(attention.chunk > 0, "model.attention.chunk");
  refuse_if(!attention.nope_layers.is_none(), "model.attention.nope_layers");
  refuse_if(config.rope.interleaved, "model.rope.interleaved = true");
  refuse_if(config.rope.fraction != 1.0, "model.rope.fraction");
  refuse_if(config.rope.scaling != RopeScaling::kNone, "model.rope.scaling");
  return reasons;
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
  auto blocks = against_plain_blocks(config);
  const bool is_dense = config.num_moe_layers() == 0;
  if (is_dense && config.qkv_bias) blocks.push_back("model.qkv_bias = true, without a bias on the output");
  if (!blocks.empty()) throw UserError("export: the model fits no Hugging Face layout that is written here: " + joined(blocks));
  if (is_dense) return HfFamily::kLlama;
  const auto mixtral = against_mixtral(config), qwen = against_qwen2_moe(config);
  if (mixtral.empty()) return HfFamily::kMixtral;
  if (qwen.empty()) return HfFamily::kQwen2Moe;
  throw UserError("export: the model fits no Hugging Face layout exactly.\n  Mixtral does not fit: " + joined(mixtral) +
                  "\n  Qwen2-MoE does not fit: " + joined(qwen));
}

nlohmann::json hf_config(const ModelConfig& config, HfFamily family, const std::string& dtype, int64_t end_of_text) {
  const auto& hf = hf_class(family);
  nlohmann::json json = {{"architectures", {hf.architecture}},
                         {"model_type", hf.model_type},
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
