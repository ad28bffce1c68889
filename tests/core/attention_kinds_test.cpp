// What holds for every kind of attention. fp64.
#include "tests/core/attention_kinds.h"

#include <gtest/gtest.h>

#include "core/loss.h"
#include "core/shift.h"

namespace switchyard {
namespace {

class EveryAttention : public ::testing::TestWithParam<AttentionKind> {
 protected:
  const ModelConfig& config() const { return GetParam().config; }
};

TokenContext whole_sequences(bool documents, bool training = false) {
  auto context = tiny_context(2, 8, 29, training);
  if (documents) context.document_BS = longs({0, 0, 0, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 1, 1, 1}).view({2, 8});
  return context;
}

TokenContext part_of(const TokenContext& whole, int64_t first, int64_t count) {
  auto part = whole;
  for (auto* tensor : {&part.token_ids_BS, &part.mask_BS, &part.document_BS}) {
    if (tensor->defined()) *tensor = tensor->narrow(1, first, count);
  }
  return part;
}

/// Parameters that start at 0 or 1 would hide what they do.
Transformer model_of(const ModelConfig& config) {
  auto model = tiny_model(config);
  at::NoGradGuard no_grad;
  for (const auto& item : model->named_parameters()) {
    if (item.value().dim() == 1) item.value().add_(0.3 * normal(item.value().sizes(), item.key().size()));
  }
  return model;
}

TEST_P(EveryAttention, IsConsistentByItsOwnRules) {
  const auto faults = find_faults(config());
  EXPECT_TRUE(faults.empty()) << faults[0].key << " " << faults[0].problem;
}

TEST_P(EveryAttention, LooksAtEarlierTokensOnly) {
  auto model = model_of(config());
  auto context = whole_sequences(false);
  const auto before = model->forward(context).hidden_BSD;
  context.token_ids_BS.select(1, 5).fill_(1);
  const auto after = model->forward(context).hidden_BSD;
  EXPECT_LT((before - after).narrow(1, 0, 5).abs().max().item<double>(), 1e-12);
  EXPECT_GT((before - after).select(1, 5).abs().max().item<double>(), 1e-6);
}

TEST_P(EveryAttention, StepByStepGivesTheLogitsOfTheWhole) {
  auto model = model_of(config());
  for (const bool documents : {false, true}) {
    const auto context = whole_sequences(documents);
    const auto whole = model->logits(model->forward(context).hidden_BSD);
    DecodingState state;
    std::vector<at::Tensor> parts;
    for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 1}, {4, 1}, {5, 2}, {7, 1}}) {
      parts.push_back(model->logits(model->decode(part_of(context, first, count), state).hidden_BSD));
    }
    EXPECT_LT((at::cat(parts, 1) - whole).abs().max().item<double>(), 1e-10) << "documents: " << documents;
    EXPECT_EQ(state.past.count, 8);
  }
}

TEST_P(EveryAttention, HasTheParametersThatTheConfigurationCounts) {
  auto model = tiny_model(config());
  int64_t numel = 0, prediction = 0;
  for (const auto& item : model->named_parameters()) {
    numel += item.value().numel();
    if (item.key().starts_with("mtp.")) prediction += item.value().numel();
  }
  EXPECT_EQ(count_parameters(config()).total, numel);
  EXPECT_EQ(count_parameters(config()).prediction, prediction);
}

/// The sum of all cross entropies, those of prediction blocks too.
at::Tensor loss_of(Transformer& model, TokenContext context) {
  context.next_ids_BS = shifted(context.token_ids_BS, 1);
  const auto output = model->forward(context);
  const auto mask = context.mask_BS.flatten();
  auto loss = cross_entropy_sum(model->logits(output.hidden_BSD).flatten(0, 1), context.next_ids_BS.flatten(), mask);
  for (const auto& further : output.further_BSD) {
    loss = loss + cross_entropy_sum(model->logits(further).flatten(0, 1), context.next_ids_BS.flatten(), mask);
  }
  return loss;
}

TEST_P(EveryAttention, GradientsMatchDifferences) {
  auto model = model_of(config());
  const auto context = whole_sequences(false, /*training=*/true);
  loss_of(model, context).backward();
  at::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  uint64_t seed = 1;
  for (const auto& item : model->named_parameters()) {
    const auto& parameter = item.value();
    ASSERT_TRUE(parameter.grad().defined()) << item.key();
    const auto direction = normal(parameter.sizes(), ++seed);
    parameter.add_(direction, kStep);
    const double above = loss_of(model, context).item<double>();
    parameter.sub_(direction, 2 * kStep);
    const double below = loss_of(model, context).item<double>();
    parameter.add_(direction, kStep);
    const double expected = (above - below) / (2 * kStep), slope = (parameter.grad() * direction).sum().item<double>();
    EXPECT_NEAR(slope, expected, 1e-5 * std::max(1.0, std::abs(expected))) << item.key();
  }
}

TEST_P(EveryAttention, RecomputationGivesTheSameGradients) {
  const auto gradients_with = [&](Recompute recompute) {
    Transformer model(config(), local_dispatchers(config()), ExecutionConfig{.recompute = recompute, .overlap_shared_expert = true});
    initialize_parameters(model->parameters_by_name(), config(), /*seed=*/7);
    model->to(at::kDouble);
    loss_of(model, whole_sequences(true, /*training=*/true)).backward();
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : model->parameters()) gradients.push_back(parameter.grad().flatten());
    return at::cat(gradients);
  };
  EXPECT_TRUE(at::equal(gradients_with(Recompute::kBlock), gradients_with(Recompute::kNone)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryAttention, ::testing::ValuesIn(attention_kinds()), [](const auto& info) { return info.param.name; });

TEST(Decoding, IsRefusedWhereLaterTokensChangeEarlierOnes) {
  auto config = tiny_config();
  EXPECT_TRUE(can_decode(config));
  config.moe->eval_capacity_factor = 2.0;
  EXPECT_FALSE(can_decode(config));
  config.moe->eval_capacity_factor.reset();
  for (const char* router : {"expert_choice", "forced_uniform", "forced_random"}) {
    config.moe->router = router;
    EXPECT_FALSE(can_decode(config)) << router;
  }
  config.moe->router = "hash";
  EXPECT_TRUE(can_decode(config));
}

TEST(MultiTokenPrediction, ADepthSeesTheTokensUpToItsOwn) {
  auto config = tiny_latent_config();
  config.mtp_layers = 2;
  auto model = tiny_model(config);
  auto context = whole_sequences(false);
  context.next_ids_BS = shifted(context.token_ids_BS, 1);
  const auto before = model->forward(context).further_BSD;
  ASSERT_EQ(before.size(), 2u);
  // Token 6 is the next one of place 5 and the one after next of place 4.
  context.token_ids_BS.select(1, 6).fill_(2);
  context.next_ids_BS = shifted(context.token_ids_BS, 1);
  const auto after = model->forward(context).further_BSD;
  for (const int64_t depth : {1, 2}) {
    const auto difference = (before[depth - 1] - after[depth - 1]).abs().amax({0, 2});
    EXPECT_LT(difference.narrow(0, 0, 6 - depth).max().item<double>(), 1e-12);
    EXPECT_GT(difference[6 - depth].item<double>(), 1e-6);
  }
}

}  // namespace
}  // namespace switchyard
