#include "training/config_section_keys.h"

namespace switchyard {
namespace {

bool is_latent(const RunConfig& config) {
  return config.model.attention.is_latent();
}

template <class Keys>
void add_latent_keys(Keys& attention) {
  const std::string latent = "model.attention.kv_lora_rank", is_given = "is 1 or more";
  attention.add("kv_lora_rank", &AttentionConfig::kv_lora_rank, IntegerValue{0, kMaxSize},
                "Makes attention multi-head latent attention: keys and values of all heads are made of a latent of this width; 0 = "
                "grouped-query attention.");
  attention
      .add("q_lora_rank", &AttentionConfig::q_lora_rank, IntegerValue{0, kMaxSize},
           "Width of the latent that queries are made of; 0 = straight from the input.")
      .only_when(latent, is_given, is_latent);
  attention
      .add("qk_nope_head_dim", &AttentionConfig::qk_nope_head_dim, IntegerValue{0, kMaxSize},
           "Width of a head's queries and keys that has no position.")
      .only_when(latent, is_given, is_latent);
  attention
      .add("qk_rope_head_dim", &AttentionConfig::qk_rope_head_dim, IntegerValue{0, kMaxSize},
           "Width of a head's queries and keys that turns with the position; keys share it between heads.")
      .only_when(latent, is_given, is_latent);
  attention.add("v_head_dim", &AttentionConfig::v_head_dim, IntegerValue{0, kMaxSize}, "Width of a head's values.")
      .only_when(latent, is_given, is_latent);
}

template <class Keys>
void add_sight_keys(Keys& attention) {
  attention.add("window", &AttentionConfig::window, IntegerValue{0, kMaxLength},
                "A token sees this many tokens, itself included; 0 = all before it.");
  attention.add("chunk", &AttentionConfig::chunk, IntegerValue{0, kMaxLength},
                "The sequence is cut into pieces of this many tokens, and a token sees those of its own; 0 = all before it.");
  attention.add("full_layers", &AttentionConfig::full_layers, LayerSetValue{}, "Blocks without window and chunk; [] = none.");
  attention.add("nope_layers", &AttentionConfig::nope_layers, LayerSetValue{}, "Blocks without rotary positions; [] = none.");
  attention.add("temperature_scale", &AttentionConfig::temperature_scale, NumberValue{},
                "Multiplies the queries of nope_layers at position p by 1 + this x ln(1 + floor((p + 1) / temperature_floor)); 0 = not.");
  attention.add("temperature_floor", &AttentionConfig::temperature_floor, IntegerValue{1, kMaxLength}, "Tokens, as in temperature_scale.")
      .only_when("model.attention.temperature_scale", "is larger than 0",
                 [](const RunConfig& config) { return config.model.attention.temperature_scale > 0.0; });
}

/// A predicate on the kind of scaling.
template <class... Kinds>
auto scales_by(Kinds... kinds) {
  return [=](const RunConfig& config) { return ((config.model.rope.scaling == kinds) || ...); };
}

template <class Keys>
void add_yarn_keys(Keys& rope) {
  const std::string scaling = "model.rope.scaling", is_yarn = "is yarn";
  const auto yarn = scales_by(RopeScaling::kYarn);
  rope.add("beta_fast", &RopeConfig::beta_fast, NumberValue{.least_excluded = true},
           "Pairs with more turns than this over original_length are left as they are.")
      .only_when(scaling, is_yarn, yarn);
  rope.add("beta_slow", &RopeConfig::beta_slow, NumberValue{.least_excluded = true},
           "Pairs with fewer turns than this are stretched by the whole factor.")
      .only_when(scaling, is_yarn, yarn);
  rope.add("truncate", &RopeConfig::truncate, BooleanValue{}, "The ramp between beta_fast and beta_slow begins and ends at whole pairs.")
      .only_when(scaling, is_yarn, yarn);
  rope.add("attention_factor", &RopeConfig::attention_factor, OptionalNumberValue{{.least_excluded = true}},
           "Multiplies cos and sin; null = 0.1 ln(factor) + 1, or what mscale and mscale_all_dim say.")
      .only_when(scaling, is_yarn, yarn);
  rope.add("mscale", &RopeConfig::mscale, NumberValue{},
           "With mscale_all_dim: cos and sin are multiplied by m(mscale) / m(mscale_all_dim), m(s) = 0.1 s ln(factor) + 1; 0 = not given.")
      .only_when(scaling, is_yarn, yarn);
  rope.add("mscale_all_dim", &RopeConfig::mscale_all_dim, NumberValue{},
           "Also multiplies the scores of latent attention by m(mscale_all_dim)^2; 0 = not given.")
      .only_when(scaling, is_yarn, yarn);
}

}  // namespace

void add_attention_keys(RunKeys& keys) {
  SectionKeys attention(
      keys, "model.attention.", [](auto& config) -> auto& { return config.model.attention; });
  attention.add("output_bias", &AttentionConfig::output_bias, BooleanValue{}, "A bias on the output projection.");
  attention.add(
      "qk_norm", &AttentionConfig::qk_norm,
      WordValue<QkNorm>{{{"none", QkNorm::kNone}, {"head", QkNorm::kHead}, {"whole", QkNorm::kWhole}, {"unit", QkNorm::kUnit}}},
      "RMSNorm of queries and keys. head: of each head, before positions. whole: of all heads together, before positions. unit: of each "
      "head, without weights, behind positions, in blocks that have these.");
  attention.add("clip_qkv", &AttentionConfig::clip_qkv, OptionalNumberValue{{.least_excluded = true}},
                "Clamps queries, keys and values to +- this; null = not.");
  attention.add("sinks", &AttentionConfig::sinks, BooleanValue{},
                "A learned logit a head that takes part in the softmax and brings no value: a head may look at nothing.");
  add_sight_keys(attention);
  add_latent_keys(attention);
}

void add_rope_keys(RunKeys& keys) {
  SectionKeys rope(
      keys, "model.rope.", [](auto& config) -> auto& { return config.model.rope; });
  rope.add("interleaved", &RopeConfig::interleaved, BooleanValue{}, "Pairs are neighbours (2i, 2i + 1) instead of (i, i + half).");
  rope.add("fraction", &RopeConfig::fraction, NumberValue{.most = 1.0, .least_excluded = true},
           "Share of a head's width, from its start, that turns with the position.");
  rope.add(
      "scaling", &RopeConfig::scaling,
      WordValue<RopeScaling>{
          {{"none", RopeScaling::kNone}, {"linear", RopeScaling::kLinear}, {"llama3", RopeScaling::kLlama3}, {"yarn", RopeScaling::kYarn}}},
      "How wavelengths are stretched for longer contexts than the first. linear: all; llama3: the long ones; yarn: by a ramp.");
  const std::string scaling = "model.rope.scaling";
  rope.add("factor", &RopeConfig::factor, NumberValue{.least = 1.0}, "How many times longer the context became.");
  rope.add("original_length", &RopeConfig::original_length, IntegerValue{0, kMaxLength}, "Tokens of the context before it grew.")
      .only_when(scaling, "is llama3 or yarn", scales_by(RopeScaling::kLlama3, RopeScaling::kYarn));
  rope.add("low_freq_factor", &RopeConfig::low_freq_factor, NumberValue{.least_excluded = true},
           "Pairs with fewer turns than this over original_length are stretched by the whole factor.")
      .only_when(scaling, "is llama3", scales_by(RopeScaling::kLlama3));
  rope.add("high_freq_factor", &RopeConfig::high_freq_factor, NumberValue{.least_excluded = true},
           "Pairs with more turns than this are left as they are.")
      .only_when(scaling, "is llama3", scales_by(RopeScaling::kLlama3));
  add_yarn_keys(rope);
}

}  // namespace switchyard
