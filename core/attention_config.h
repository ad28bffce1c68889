// What the families of transformers add to plain attention: positions, norms of queries and keys, what a token sees, latent keys.
// Field names are the configuration's keys (sections `model.attention` and `model.rope`).
#pragma once

#include <cstdint>
#include <optional>

#include "core/layer_set.h"

namespace switchyard {

/// How wavelengths are stretched for sequences longer than those of the first training. `linear`: all of them (Chen et al. 2023,
/// arXiv:2306.15595). `llama3`: the long ones (Llama 3.1, arXiv:2407.21783). `yarn`: by a ramp between two numbers of turns, with a factor
/// on the scores (Peng et al. 2023, arXiv:2309.00071).
enum class RopeScaling { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  bool interleaved = false;  ///< pairs are (2i, 2i + 1), as DeepSeek and Llama 4, instead of (i, i + d/2)
  double fraction = 1.0;     ///< the share of a head's width, from its start, that turns; the rest has no position
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;                          ///< by which the context grew
  int64_t original_length = 0;                  ///< tokens of the context before it grew
  double low_freq_factor = 1.0;                 ///< llama3: fewer turns than this over original_length are stretched whole...
  double high_freq_factor = 4.0;                ///< ... more than this not at all
  double beta_fast = 32.0;                      ///< yarn: more turns than this over original_length are left alone...
  double beta_slow = 1.0;                       ///< ... fewer than this are stretched whole
  bool truncate = true;                         ///< yarn: the ramp's ends are whole pairs
  std::optional<double> attention_factor = {};  ///< yarn: on cos and sin; none = 0.1 ln(factor) + 1, or by the two below
  double mscale = 0.0;                          ///< yarn of DeepSeek: cos and sin times m(mscale) / m(mscale_all_dim)...
  double mscale_all_dim = 0.0;  ///< ... and the scores of latent attention times m(mscale_all_dim)^2; m(s) = 0.1 s ln(factor) + 1
};

/// Root mean square norms of queries and keys. `head`: each head alone, one weight for all heads (Qwen3). `whole`: all heads together
/// (OLMo 2, OLMoE). `unit`: each head alone, without weights, in blocks whose positions are rotated (Llama 4).
enum class QkNorm { kNone, kHead, kWhole, kUnit };

struct AttentionConfig {
  bool output_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  std::optional<double> clip_qkv = {};      ///< queries, keys and values are clamped to +- this (OLMoE); none = not
  bool sinks = false;                       ///< a learned logit a head that takes part in the softmax and brings no value (gpt-oss)
  int64_t window = 0;                       ///< a token sees this many, itself included (Mistral); 0 = all before it
  int64_t chunk = 0;                        ///< a token sees those of its own chunk of the sequence (Llama 4); 0 = all before it
  LayerSet full_layers = LayerSet::none();  ///< blocks without window and chunk
  LayerSet nope_layers = LayerSet::none();  ///< blocks without rotary positions
  double temperature_scale = 0.0;           ///< queries of nope_layers times 1 + scale ln(1 + floor((p + 1) / floor)) (Llama 4); 0 = not
  int64_t temperature_floor = 8192;

  int64_t kv_lora_rank = 0;  ///< > 0: multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), width of the latent of keys and values
  int64_t q_lora_rank = 0;   ///< width of the queries' latent; 0 = queries straight from the input
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;

  bool is_latent() const { return kv_lora_rank > 0; }
};

}  // namespace switchyard
