#include "training/generation.h"

#include <algorithm>

#include <ATen/CPUGeneratorImpl.h>

#include "core/dtypes.h"
#include "core/error.h"
#include "core/routing/routing_rule.h"
#include "training/documents.h"

namespace switchyard {
namespace {

/// Logits of the token behind `tokens`, on the CPU.
at::Tensor next_logits(ModelInstance& model, const std::vector<int64_t>& tokens, const SamplingOptions& options) {
  const auto length = std::min<int64_t>(static_cast<int64_t>(tokens.size()), model.transformer->config().max_sequence_length);
  const auto device = model.store->device();
  TokenContext context;
  context.token_ids_BS =
      at::tensor(at::ArrayRef<int64_t>(tokens).slice(tokens.size() - static_cast<size_t>(length)), at::kLong).unsqueeze(0).to(device);
  context.global_sample_B = at::zeros({1}, at::dtype(at::kLong).device(device));
  if (options.reset_attention_mask) context.document_BS = document_numbers(context.token_ids_BS, options.stop_token);
  if (options.reset_position_ids) context.position_BS = document_positions(context.token_ids_BS, options.stop_token);
  const auto hidden_BSD = model.transformer->forward(context).hidden_BSD;
  return widen(model.transformer->logits(hidden_BSD.select(1, length - 1))).squeeze(0).cpu();
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
  for (int64_t n = 0; n < options.max_tokens; ++n) {
    tokens.push_back(sample(next_logits(model, tokens, options), options, generator));
    if (tokens.back() == options.stop_token) break;
  }
  return {tokens.begin() + static_cast<int64_t>(prompt_length), tokens.end()};
}

}  // namespace switchyard
