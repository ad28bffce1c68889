// Attention of every family, mixed as the rules of a model allow.
#include "tests/fuzz/draw_case.h"

namespace switchyard {
namespace {

LayerSet draw_blocks(Draws& draws) {
  return draws.percent(50) ? LayerSet::none() : LayerSet{.kind = LayerSet::Kind::kEvery, .count = draws.between(1, 2), .list = {}};
}

RopeConfig draw_rope(Draws& draws, int64_t head_dim, bool is_latent) {
  RopeConfig rope;
  rope.interleaved = draws.percent(30);
  if (!is_latent && head_dim > 2 && draws.percent(25)) rope.fraction = 2.0 / static_cast<double>(head_dim);
  if (draws.percent(70)) return rope;
  rope.scaling = draws.one_of({RopeScaling::kLinear, RopeScaling::kLlama3, RopeScaling::kYarn});
  rope.factor = draws.one_of({1.5, 4.0});
  rope.original_length = draws.between(2, 8);
  if (rope.scaling == RopeScaling::kYarn && draws.percent(50)) rope.mscale = 0.7, rope.mscale_all_dim = 1.0;
  return rope;
}

void draw_latents(Draws& draws, ModelConfig& model) {
  auto& attention = model.attention;
  model.num_key_value_heads = model.num_attention_heads;
  attention.kv_lora_rank = draws.between(2, 6);
  attention.q_lora_rank = draws.percent(50) ? draws.between(2, 6) : 0;
  attention.qk_nope_head_dim = draws.between(1, 4);
  attention.qk_rope_head_dim = draws.one_of<int64_t>({2, 4});
  attention.v_head_dim = draws.between(1, 5);
}

void draw_grouped_parts(Draws& draws, AttentionConfig& attention) {
  attention.qk_norm = draws.one_of({QkNorm::kNone, QkNorm::kNone, QkNorm::kHead, QkNorm::kWhole, QkNorm::kUnit});
  attention.sinks = draws.percent(20);
  if (draws.percent(10)) attention.clip_qkv = 0.3;
  if (!draws.percent(20)) return;
  attention.nope_layers = {.kind = LayerSet::Kind::kEvery, .count = 2, .list = {}};
  if (draws.percent(50)) attention.temperature_scale = 0.3, attention.temperature_floor = 2;
}

}  // namespace

void draw_attention(Draws& draws, ModelConfig& model) {
  auto& attention = model.attention;
  if (draws.percent(25)) {
    draw_latents(draws, model);
  } else {
    draw_grouped_parts(draws, attention);
  }
  model.qkv_bias = draws.percent(25);
  attention.output_bias = draws.percent(20);
  if (draws.percent(30)) {
    (draws.percent(50) ? attention.window : attention.chunk) = draws.between(1, 4);
    attention.full_layers = draw_blocks(draws);
  }
  model.rope = draw_rope(draws, model.head_dim, attention.is_latent());
}

std::string describe_attention(const ModelConfig& model) {
  const auto& attention = model.attention;
  std::string text;
  if (attention.is_latent()) {
    text += c10::str(", latent ", attention.kv_lora_rank, " (queries ", attention.q_lora_rank, "), heads of ", attention.qk_nope_head_dim,
                     "+", attention.qk_rope_head_dim, "/", attention.v_head_dim);
  }
  if (attention.qk_norm != QkNorm::kNone) text += c10::str(", qk_norm ", static_cast<int>(attention.qk_norm));
  if (attention.sinks) text += ", sinks";
  if (attention.clip_qkv) text += ", clipped qkv";
  if (model.qkv_bias) text += ", qkv_bias";
  if (attention.output_bias) text += ", output_bias";
  if (attention.window > 0) text += c10::str(", window ", attention.window);
  if (attention.chunk > 0) text += c10::str(", chunk ", attention.chunk);
  if (!attention.full_layers.is_none()) text += c10::str(", full every ", attention.full_layers.count);
  if (!attention.nope_layers.is_none()) text += c10::str(", no positions every ", attention.nope_layers.count);
  if (attention.temperature_scale > 0.0) text += ", temperature";
  if (model.rope.interleaved) text += ", interleaved";
  if (model.rope.fraction != 1.0) text += c10::str(", turned ", model.rope.fraction);
  if (model.rope.scaling != RopeScaling::kNone) text += c10::str(", rope scaling ", static_cast<int>(model.rope.scaling));
  return text;
}

}  // namespace switchyard
