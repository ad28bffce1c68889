#include "core/attention_plan.h"

#include <limits>

#include "core/attention_blocks.h"
#include "core/dtypes.h"
#include "core/kernels/rows.h"

namespace switchyard {
namespace {

/// bool [1 or B, S, P + S]: which of the tokens so far each token of the pass sees.
at::Tensor visible(const AttentionConfig& config, const TokenContext& context, const PastTokens& past, bool limited) {
  const auto device = context.token_ids_BS.device();
  const int64_t S = context.token_ids_BS.size(1);
  const auto query_S1 = at::arange(past.count, past.count + S, at::dtype(at::kLong).device(device)).unsqueeze(1);
  const auto key_P = at::arange(past.count + S, query_S1.options());
  auto sees = (key_P <= query_S1).unsqueeze(0);
  if (limited && config.window > 0) sees = sees.logical_and(key_P > query_S1 - config.window);
  if (limited && config.chunk > 0) {
    const auto chunk_of = [&](const at::Tensor& position) { return at::div(position, config.chunk, "floor"); };
    sees = sees.logical_and(chunk_of(key_P) == chunk_of(query_S1));
  }
  if (const auto& own_BS = context.document_BS; own_BS.defined()) {
    const auto all_BP = past.count > 0 ? at::cat({past.document_BP, own_BS}, 1) : own_BS;
    sees = sees.logical_and(own_BS.unsqueeze(2) == all_BP.unsqueeze(1));
  }
  return sees;
}

at::Tensor as_mask(const at::Tensor& sees_BSP, at::ScalarType dtype) {
  return at::zeros(sees_BSP.sizes(), sees_BSP.options().dtype(dtype))
      .masked_fill_(sees_BSP.logical_not(), -std::numeric_limits<double>::infinity())
      .unsqueeze(1);
}

RotaryTable rotary_of_pass(const RotaryTable& rotary, const TokenContext& context, const PastTokens& past) {
  if (context.position_BS.defined()) return rotary.at_positions(context.position_BS);
  return past.count > 0 ? rotary.from_position(past.count) : rotary;
}

/// Llama 4's "temperature tuning": queries far into a sequence are made larger, because the softmax over many keys is flat.
at::Tensor temperature(const AttentionConfig& config, const TokenContext& context, const PastTokens& past) {
  const int64_t S = context.token_ids_BS.size(1);
  const auto position = at::arange(past.count, past.count + S, at::dtype(at::kDouble).device(context.token_ids_BS.device()));
  const auto steps = ((position + 1.0) / static_cast<double>(config.temperature_floor)).floor();
  return (1.0 + config.temperature_scale * (steps + 1.0).log()).unsqueeze(1);
}

/// With the sink, which no kernel of LibTorch's knows.
at::Tensor attend_with_sink(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask, double scale,
                            const at::Tensor& sink_H) {
  auto scores = widen(at::matmul(query, key.transpose(2, 3))) * scale;
  const int64_t S = scores.size(2), P = scores.size(3);
  if (mask.defined()) {
    scores = scores + mask;
  } else {
    const auto hidden = at::ones({S, P}, scores.options().dtype(at::kBool)).triu_(1);
    scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  }
  const auto sink = sink_H.to(scores.scalar_type()).view({1, -1, 1, 1}).expand({scores.size(0), -1, S, 1});
  const auto share = at::cat({scores, sink}, 3).softmax(3).narrow(3, 0, P);
  return at::matmul(share.to(value.scalar_type()), value);
}

}  // namespace

AttentionPlan plan_attention(const RotaryTable& rotary, const AttentionConfig& config, const TokenContext& context, at::ScalarType dtype,
                             const PastTokens& past) {
  AttentionPlan plan{
      .rotary = rotary_of_pass(rotary, context, past), .full_mask = {}, .limited_mask = {}, .past_document_B1 = {}, .temperature_S1 = {}};
  if (past.count > 0 && past.document_BP.defined()) plan.past_document_B1 = past.document_BP.narrow(1, past.count - 1, 1);
  if (past.count > 0 || context.document_BS.defined()) plan.full_mask = as_mask(visible(config, context, past, /*limited=*/false), dtype);
  const bool is_limited = config.window > 0 || config.chunk > 0;
  plan.limited_mask = is_limited ? as_mask(visible(config, context, past, /*limited=*/true), dtype) : plan.full_mask;
  if (config.temperature_scale > 0.0) plan.temperature_S1 = temperature(config, context, past).to(dtype);
  return plan;
}

at::Tensor attend(const at::Tensor& query_BHSd, const at::Tensor& key_BKPd, const at::Tensor& value_BKPv, const at::Tensor& mask,
                  double scale, const at::Tensor& sink_H) {
  if (!sink_H.defined() && kernels::has_kernels(query_BHSd)) return attend_by_blocks(query_BHSd, key_BKPd, value_BKPv, mask, scale);
  const int64_t group = query_BHSd.size(1) / key_BKPd.size(1);
  const auto widen_heads = [&](const at::Tensor& heads) { return group == 1 ? heads : heads.repeat_interleave(group, /*dim=*/1); };
  const auto key = widen_heads(key_BKPd), value = widen_heads(value_BKPv);
  if (sink_H.defined()) return attend_with_sink(query_BHSd, key, value, mask, scale, sink_H);
  const auto given_mask = mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt;
  return at::scaled_dot_product_attention(query_BHSd, key, value, given_mask, /*dropout_p=*/0.0, /*is_causal=*/!mask.defined(), scale);
}

}  // namespace switchyard
