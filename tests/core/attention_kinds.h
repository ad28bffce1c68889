// One small model for each part that attention may have, for tests that hold for all of them.
#pragma once

#include <string>
#include <vector>

#include "tests/tiny_models.h"

namespace switchyard {

struct AttentionKind {
  std::string name;
  ModelConfig config;
};

inline ModelConfig tiny_latent_config() {
  auto config = tiny_config();
  config.num_key_value_heads = config.num_attention_heads;
  config.attention.kv_lora_rank = 6;
  config.attention.qk_nope_head_dim = 4;
  config.attention.qk_rope_head_dim = 2;
  config.attention.v_head_dim = 3;
  return config;
}

inline std::vector<AttentionKind> attention_kinds() {
  std::vector<AttentionKind> kinds;
  const auto add = [&](const std::string& name, ModelConfig config, auto change) {
    change(config);
    kinds.push_back({name, std::move(config)});
  };
  const auto plain = tiny_config(), latent = tiny_latent_config();
  add("plain", plain, [](ModelConfig&) {});
  add("biases", plain, [](ModelConfig& c) { c.qkv_bias = c.attention.output_bias = c.ffn_bias = true; });
  add("qk_norm_head", plain, [](ModelConfig& c) { c.attention.qk_norm = QkNorm::kHead; });
  add("qk_norm_whole_post_norm", plain, [](ModelConfig& c) {
    c.attention.qk_norm = QkNorm::kWhole;
    c.norm_placement = NormPlacement::kPost;
    c.attention.clip_qkv = 0.5;
  });
  add("window_in_one_block", plain, [](ModelConfig& c) {
    c.attention.window = 3;
    c.attention.full_layers = {.kind = LayerSet::Kind::kEvery, .count = 2};
  });
  add("chunks_nope_temperature", plain, [](ModelConfig& c) {
    c.attention.chunk = 3;
    c.attention.full_layers = c.attention.nope_layers = {.kind = LayerSet::Kind::kEvery, .count = 2};
    c.attention.qk_norm = QkNorm::kUnit;
    c.attention.temperature_scale = 0.5;
    c.attention.temperature_floor = 2;
    c.rope.interleaved = true;
  });
  add("sinks_window_yarn", plain, [](ModelConfig& c) {
    c.attention.sinks = true;
    c.attention.window = 4;
    c.rope = {.fraction = 0.5, .scaling = RopeScaling::kYarn, .factor = 4.0, .original_length = 4};
  });
  add("tied", plain, [](ModelConfig& c) { c.tie_embeddings = true; });
  add("latent", latent, [](ModelConfig&) {});
  add("latent_with_query_latent", latent, [](ModelConfig& c) {
    c.attention.q_lora_rank = 5;
    c.qkv_bias = c.attention.output_bias = true;
    c.attention.window = 3;
    c.rope = {
        .interleaved = true, .scaling = RopeScaling::kYarn, .factor = 4.0, .original_length = 4, .mscale = 0.7, .mscale_all_dim = 1.0};
  });
  add("lstm", plain, [](ModelConfig& c) { c.sequence_mixer = SequenceMixer::kLstm; });
  add("two_predictions", latent, [](ModelConfig& c) { c.mtp_layers = 2; });
  return kinds;
}

}  // namespace switchyard
