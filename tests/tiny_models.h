// Small models and tensors with fixed values for the tests.
#pragma once

#include <vector>

#include <ATen/CPUGeneratorImpl.h>

#include "core/init.h"
#include "core/transformer.h"
#include "tests/tensors.h"

namespace switchyard {

inline at::Tensor matrix(const std::vector<std::vector<double>>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(at::tensor(row, at::kDouble));
  return at::stack(tensors);
}

/// Normal numbers that depend on `seed` only.
inline at::Tensor normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kDouble).normal_(0.0, 1.0, generator).to(dtype);
}

/// 2 blocks, width 16, sequences of 8; `moe` with 4 experts, top-2.
inline ModelConfig tiny_config(bool moe = true) {
  ModelConfig config;
  config.vocab_size = 29;
  config.num_layers = 2;
  config.hidden_size = 16;
  config.ffn_hidden_size = 24;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.max_sequence_length = 8;
  config.init_std = 0.2;  // large enough for routers to have opinions
  if (moe) {
    config.moe.emplace();
    config.moe->num_experts = 4;
    config.moe->top_k = 2;
    config.moe->ffn_hidden_size = 12;
  }
  return config;
}

inline Dispatchers local_dispatchers(const ModelConfig& config) {
  Dispatchers dispatchers;
  for (const int64_t layer : config.moe_layers()) {
    const int64_t num_experts = config.num_experts_at(layer);
    dispatchers[num_experts] = make_local_dispatcher(num_experts);
  }
  return dispatchers;
}

/// A model with initial weights, all experts here, in `dtype`.
inline Transformer tiny_model(const ModelConfig& config, at::ScalarType dtype = at::kDouble, uint64_t seed = 7) {
  Transformer model(config, local_dispatchers(config));
  initialize_parameters(model->parameters_by_name(), config, seed);
  model->to(dtype);
  return model;
}

/// Sequences of token ids that differ from each other.
inline TokenContext tiny_context(int64_t B, int64_t S, int64_t vocab_size, bool training = true) {
  TokenContext context;
  context.token_ids_BS = (at::arange(B * S, at::kLong).view({B, S}) * 7 + 3).remainder(vocab_size);
  context.global_sample_B = at::arange(B, at::kLong);
  context.mask_BS = at::ones({B, S}, at::kBool);
  context.domain_B = at::zeros({B}, at::kLong);
  context.training = training;
  context.step = 1;
  return context;
}

}  // namespace switchyard
