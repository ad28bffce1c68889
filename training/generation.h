// Text from a model, token by token.
#pragma once

#include <cstdint>
#include <vector>

#include "training/model_instance.h"

namespace switchyard {

struct SamplingOptions {
  int64_t max_tokens = 200;
  double temperature = 0.8;  ///< 0 = always the likeliest token
  int64_t top_k = 0;         ///< sample among this many likeliest tokens; 0 = all
  uint64_t seed = 1;
  int64_t stop_token = -1;  ///< ends the text; -1 = none
  // As in training (DataConfig): what stop tokens do inside the prompt.
  bool reset_attention_mask = false;
  bool reset_position_ids = false;
};

/// Goes on from `prompt` (at least one token); returns the new tokens only. The model sees the last max_sequence_length tokens. It
/// computes each token once and keeps its keys and values; where it cannot (can_decode), or the text is longer than its context, every step
/// computes all of them anew. Dropless, but for eval_capacity_factor. Collective over the model's expert group. Errors: UserError for a
/// routing rule that looks at later tokens.
std::vector<int64_t> generate(ModelInstance& model, std::vector<int64_t> prompt, const SamplingOptions& options);

}  // namespace switchyard
