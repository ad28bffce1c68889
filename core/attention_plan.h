// What the tokens of a batch see of each other, and the attention over it.
#pragma once

#include "core/model_config.h"
#include "core/rotary.h"
#include "core/routing/routing.h"

namespace switchyard {

/// Tokens of the same sequences that stand before those of this pass, whose keys are kept (generation).
struct PastTokens {
  int64_t count = 0;
  at::Tensor document_BP;  ///< as TokenContext::document_BS, of the past tokens; undefined where that is
};

/// Where the tokens of a pass stand and what they see; made once a pass, the same in every layer. Masks are added to the scores: 0 for what
/// a token sees, else -inf; [1 or B, 1, S, past + S]. Undefined: the tokens before it and itself, nothing past.
struct AttentionPlan {
  RotaryTable rotary;
  at::Tensor full_mask;
  at::Tensor limited_mask;      ///< with the window or chunk of config.attention
  at::Tensor past_document_B1;  ///< the document of the token before the pass; undefined without documents or past
  at::Tensor temperature_S1;    ///< what queries of blocks without rotary positions are multiplied by; undefined = 1
};

/// dtype: of the scores, which is the run dtype.
AttentionPlan plan_attention(const RotaryTable& rotary, const AttentionConfig& config, const TokenContext& context, at::ScalarType dtype,
                             const PastTokens& past = {});

/// softmax(scale q k^T + mask) v. query_BHSd, key_BKPd, value_BKPv, H a multiple of K: key head j serves query heads j g ... (j + 1) g - 1
/// (grouped queries, Ainslie et al. 2023, arXiv:2305.13245). mask: as in the plan. sink_H: one more logit in each head's softmax, without a
/// value; undefined = none. Returns [B, H, S, v].
at::Tensor attend(const at::Tensor& query_BHSd, const at::Tensor& key_BKPd, const at::Tensor& value_BKPv, const at::Tensor& mask,
                  double scale, const at::Tensor& sink_H);

}  // namespace switchyard
