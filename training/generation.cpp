#include "training/generation.h"

#include <algorithm>

#include <ATen/CPUGeneratorImpl.h>

#include "core/dtypes.h"
#include "core/error.h"
#include "core/routing/routing_rule.h"
#include "training/documents.h"

namespace switchyard {
namespace {

/// The sequence's context from token `first` on.
TokenContext context_from(int64_t first, at::ArrayRef<int64_t> tokens, const SamplingOptions& options, at::Device device) {
  const auto ids_1S = at::tensor(tokens, at::kLong).unsqueeze(0).to(device);
  const int64_t count = ids_1S.size(1) - first;
  TokenContext context;
  context.token_ids_BS = ids_1S.narrow(1, first, count);
  context.global_sample_B = at::zeros({1}, ids_1S.options());
  if (options.reset_attention_mask) context.document_BS = document_numbers(ids_1S, options.stop_token).narrow(1, first, count);
  if (options.reset_position_ids) context.position_BS = document_positions(ids_1S, options.stop_token).narrow(1, first, count);
  return context;
}

/// Logits of the token behind `tokens`, on the CPU. `state` holds what is known of all but the last of them, where the model can decode and
/// they fit into its context; else the newest tokens that fit are computed from the start.
at::Tensor next_logits(ModelInstance& model, at::ArrayRef<int64_t> tokens, const SamplingOptions& options, DecodingState& state) {
  const auto& config = model.transformer->config();
  const auto longest = static_cast<size_t>(config.max_sequence_length);
  const auto device = model.store->device();
  TransformerOutput output;
  if (can_decode(config) && tokens.size() <= longest) {
    output = model.transformer->decode(context_from(state.past.count, tokens, options, device), state);
  } else {
    const auto newest = tokens.slice(tokens.size() - std::min(tokens.size(), longest));
    output = model.transformer->forward(context_from(/*first=*/0, newest, options, device));
  }
  return widen(model.transformer->logits(output.hidden_BSD.select(1, -1))).squeeze(0).cpu();
}

int64_t sample(at::Tensor logits_V, const SamplingOptions& options, at::Generator& generator) {
  if (options.temperature == 0.0) return logits_V.argmax().item<int64_t>();
  if (options.top_k > 0 && options.top_k < logits_V.size(0)) {
    const auto least = std::get<0>(logits_V.topk(options.top_k)).min();
    logits_V = logits_V.masked_fill(logits_V < least, -std::numeric_limits<double>::infinity());
  }
  return (logits_V / options.temperature).softmax(0).multinomial(1, /*replacement=*/false, generator).item<int64_t>();
}

void refuse_to_look_ahead(const ModelConfig& config) {
  if (!config.moe || !routing_rules().at(config.moe->router).looks_ahead) return;
  throw UserError("generate: with model.moe.router = " + config.moe->router +
                  " the experts of a token depend on the tokens behind it, which are not there yet; train with another rule to generate");
}

}  // namespace

std::vector<int64_t> generate(ModelInstance& model, std::vector<int64_t> prompt, const SamplingOptions& options) {
  TORCH_CHECK(!prompt.empty(), "generate: the prompt needs at least one token");
  refuse_to_look_ahead(model.transformer->config());
  at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  const size_t prompt_length = prompt.size();
  auto tokens = std::move(prompt);
  DecodingState state;
  for (int64_t n = 0; n < options.max_tokens; ++n) {
    tokens.push_back(sample(next_logits(model, tokens, options, state), options, generator));
    if (tokens.back() == options.stop_token) break;
  }
  return {tokens.begin() + static_cast<int64_t>(prompt_length), tokens.end()};
}

}  // namespace switchyard
