#include "training/activation_memory.h"

#include <algorithm>

#include <c10/core/ScalarType.h>

#include "core/activation.h"
#include "core/dtypes.h"
#include "core/loss.h"

namespace switchyard {
namespace {

/// Numbers a token that one half of a block keeps, of the run's dtype.
struct PerToken {
  double kept = 0.0;
  double gradients = 0.0;  ///< of backward alone
};

double as_double(int64_t number) {
  return static_cast<double>(number);
}

PerToken of_attention(const ModelConfig& config) {
  const double D = as_double(config.hidden_size), H = as_double(config.num_attention_heads), d = as_double(config.head_dim);
  if (config.sequence_mixer == SequenceMixer::kLstm) return {10.0 * D, 5.0 * D};  // four gates, cell and output
  const auto& attention = config.attention;
  const double v = attention.is_latent() ? as_double(attention.v_head_dim) : d;
  const double key_heads = attention.is_latent() ? H : as_double(config.num_key_value_heads);
  const double latents =
      attention.is_latent() ? as_double(attention.q_lora_rank + attention.kv_lora_rank + attention.qk_rope_head_dim) : 0.0;
  // The norm's input and output; queries, keys, values, what they mix to.
  const double mixed = (H + key_heads) * (d + v);
  return {2.0 * D + latents + mixed, 2.0 * D + mixed};
}

PerToken of_feed_forward(double D, double F, double W) {
  return {2.0 * D + W + F, 2.0 * D + W + F};
}

/// Rows that travel are kept on the rank of their experts: with equal loads as many as leave.
PerToken of_experts(const ModelConfig& config, double wide_bytes_a_byte) {
  const auto& moe = *config.moe;
  const double D = as_double(config.hidden_size), K = as_double(moe.top_k), W = as_double(up_width(moe.activation, moe.ffn_hidden_size));
  // The norm's input and output, the router's copy in fp32 and its probabilities; rows in, [gate | up], rows out.
  const double router = (wide_bytes_a_byte > 1.0 ? wide_bytes_a_byte * D : 0.0) + 4.0 * wide_bytes_a_byte * as_double(moe.num_experts);
  PerToken numbers{2.0 * D + router + K * (2.0 * D + W), 2.0 * D + K * 2.0 * D};
  if (moe.shared_expert_ffn_hidden_size > 0) {
    const auto shared = of_feed_forward(0.0, as_double(moe.shared_expert_ffn_hidden_size),
                                        as_double(up_width(moe.activation, moe.shared_expert_ffn_hidden_size)));
    numbers.kept += shared.kept + D;
    numbers.gradients += shared.gradients + D;
  }
  return numbers;
}

}  // namespace

ActivationBytes activation_bytes(const ModelConfig& config, int64_t tokens, at::ScalarType dtype, Recompute recompute) {
  const double D = as_double(config.hidden_size), bytes = as_double(static_cast<int64_t>(c10::elementSize(dtype))),
               wide = as_double(static_cast<int64_t>(c10::elementSize(wide_dtype(dtype)))) / bytes;
  double kept = 0.0, largest = 0.0;
  for (int64_t layer = 0; layer < config.num_layers + config.mtp_layers; ++layer) {
    const auto here = config.at_layer(layer);
    const auto attention = of_attention(here);
    const auto channels =
        here.moe ? of_experts(here, wide)
                 : of_feed_forward(D, as_double(here.ffn_hidden_size), as_double(up_width(here.activation, here.ffn_hidden_size)));
    const bool again = recompute == Recompute::kMoe && here.moe;
    double made_again = again ? channels.kept - D : 0.0, of_block = attention.kept + (again ? 2.0 * D : channels.kept);
    if (recompute == Recompute::kBlock) made_again = attention.kept + channels.kept, of_block = D;
    kept += of_block;
    largest = std::max(largest, made_again + std::max(attention.gradients, channels.gradients));
  }
  const double V = as_double(config.vocab_size);
  const double T = as_double(tokens);
  return {.kept = bytes * T * (kept + 2.0 * D),
          .one_block = bytes * T * largest,
          .loss = bytes * (as_double(std::min(tokens, kLossChunkTokens)) * V + T * D + 2.0 * V * D)};
}

}  // namespace switchyard
