// How the tokens of a sequence learn of each other: what attention of every kind and the LSTM have in common.
#pragma once

#include <torch/nn/module.h>

#include "core/attention_plan.h"
#include "core/routing/routing.h"

namespace switchyard {

/// What a mixer keeps of the tokens so far, for generation token by token: keys and values [B, heads, past, d], the latents that these are
/// made of, or an LSTM's two states [B, D]. Undefined before the first token.
struct MixerState {
  at::Tensor first;
  at::Tensor second;
};

/// Puts `more` behind what `kept` holds along `dim`, and returns it all. Undefined: nothing so far.
inline at::Tensor append_tokens(at::Tensor& kept, const at::Tensor& more, int64_t dim) {
  return kept = kept.defined() ? at::cat({kept, more}, dim) : more;
}

class SequenceMixerModule : public torch::nn::Module {
 public:
  /// x_BSD -> the same shape; position s depends on positions up to s alone. Masked positions (context.mask_BS) only ever stand behind the
  /// real ones, so causality hides them. With a state, x_BSD are the tokens behind those that it holds, and it takes them in.
  virtual at::Tensor forward(const at::Tensor& x_BSD, const AttentionPlan& plan, const TokenContext& context, MixerState* state) = 0;
};

}  // namespace switchyard
