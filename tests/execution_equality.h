// One forward and backward of a small model on the ranks of a group, computed in every way that must not change a bit.
#pragma once

#include <gtest/gtest.h>

#include "core/loss.h"
#include "core/routing/statistics.h"
#include "parallel/all_to_all_dispatcher.h"
#include "tests/tiny_models.h"

namespace switchyard {

/// How a pass is computed.
struct Execution {
  const char* name;
  int64_t num_chunks;
  ExecutionConfig config;
};

inline std::vector<Execution> executions() {
  using enum Recompute;
  return {
      {"two chunks", 2, {}},
      {"shared expert behind the combine", 1, {kNone, false}},
      {"MoE layers computed again", 1, {kMoe, true}},
      {"blocks computed again", 1, {kBlock, true}},
      {"two chunks, blocks computed again, shared expert behind the combine", 2, {kBlock, false}},
      {"two chunks, MoE layers computed again", 2, {kMoe, true}},
  };
}

/// A model in which everything stands that an execution could disturb.
inline ModelConfig disturbable_model() {
  auto config = tiny_config();
  config.num_layers = 3;
  config.moe->num_experts = 8;
  config.moe->layers = {.kind = LayerSet::Kind::kList, .count = 1, .list = {0, 2}};
  config.moe->shared_expert_ffn_hidden_size = 8;
  config.moe->shared_expert_gate = true;
  config.moe->capacity_factor = 1.0;
  config.moe->drop_order = DropOrder::kScorePosition;
  config.moe->input_jitter = 0.1;
  return config;
}

/// Hidden states, every statistic and every gradient on this rank, by name. `skewed`: all routers send everything to experts 0 and 1.
inline std::map<std::string, at::Tensor> pass_of(const CommunicatorPtr& group, const ModelConfig& config, at::ScalarType dtype,
                                                 const Execution& execution, bool skewed) {
  const int64_t E = config.moe->num_experts;
  Transformer model(config, Dispatchers{{E, make_all_to_all_dispatcher(E, group, execution.num_chunks)}}, execution.config);
  initialize_parameters(model->parameters_by_name(), config, /*seed=*/7);
  model->to(dtype);
  if (skewed) {
    const at::NoGradGuard no_grad;
    for (const auto& item : model->named_parameters()) {
      if (item.key().ends_with("router.weight")) item.value().zero_();  // ties: the lower experts win
    }
  }
  auto context = tiny_context(2, 8, config.vocab_size);
  context.global_sample_B += 2 * group->rank();
  context.token_ids_BS = (context.token_ids_BS + 5 * group->rank()).remainder(config.vocab_size);
  context.mask_BS[1].narrow(0, 6, 2).fill_(false);
  const auto output = model->forward(context);
  auto loss = cross_entropy_sum(model->logits(output.hidden_BSD).flatten(0, 1), context.token_ids_BS.flatten(), context.mask_BS.flatten());
  std::map<std::string, at::Tensor> all = {{"hidden", output.hidden_BSD.detach()}};
  for (size_t layer = 0; layer < output.statistics.size(); ++layer) {
    const auto& s = output.statistics[layer];
    loss = loss + (s.probability_BE * normal(s.probability_BE.sizes(), 11)).sum() + 0.1 * s.z_B.sum();
    all["statistics " + std::to_string(layer)] = RoutingSums::by_sequence(s).packed().detach();
  }
  loss.backward();
  for (const auto& item : model->named_parameters()) all["gradient of " + item.key()] = item.value().grad();
  return all;
}

/// Collective.
inline void expect_the_same_bits_in_every_execution(const CommunicatorPtr& group, at::ScalarType dtype, bool skewed) {
  const auto config = disturbable_model();
  const auto plain = pass_of(group, config, dtype, {"plain", 1, {}}, skewed);
  EXPECT_GT(plain.at("statistics 0").narrow(1, 8, 8).sum().item<double>(), 0.0) << "nothing is dropped";
  for (const auto& execution : executions()) {
    const auto other = pass_of(group, config, dtype, execution, skewed);
    ASSERT_EQ(other.size(), plain.size());
    for (const auto& [name, tensor] : plain) {
      ASSERT_EQ(tensor.defined(), other.at(name).defined()) << execution.name << ": " << name;
      EXPECT_TRUE(!tensor.defined() || at::equal(tensor, other.at(name))) << execution.name << ": " << name;
    }
  }
}

}  // namespace switchyard
