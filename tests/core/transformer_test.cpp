#include "core/transformer.h"

#include <gtest/gtest.h>

#include "core/loss.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

TEST(Transformer, LaterTokensDoNotChangeEarlierLogits) {
  const auto config = tiny_config();
  auto model = tiny_model(config);
  auto context = tiny_context(1, 8, config.vocab_size, /*training=*/false);
  const auto before = model->forward(context).hidden_BSD;
  context.token_ids_BS[0][7] = 1;
  const auto after = model->forward(context).hidden_BSD;
  EXPECT_TRUE(at::allclose(before.narrow(1, 0, 7), after.narrow(1, 0, 7), 1e-12, 1e-14));
  EXPECT_FALSE(at::allclose(before[0][7], after[0][7]));
}

TEST(Transformer, ASequenceIsComputedTheSameWithWhateverNeighbours) {
  const auto config = tiny_config();
  auto model = tiny_model(config);
  const auto both = tiny_context(2, 8, config.vocab_size);
  auto second = tiny_context(1, 8, config.vocab_size);
  second.token_ids_BS = both.token_ids_BS.narrow(0, 1, 1);
  EXPECT_TRUE(at::allclose(model->forward(both).hidden_BSD[1], model->forward(second).hidden_BSD[0], 1e-12, 1e-14));
}

TEST(Transformer, ReturnsStatisticsOfTheMoeBlocksOnly) {
  auto config = tiny_config();
  config.num_layers = 4;
  config.moe->layers = {.kind = LayerSet::Kind::kList, .count = 1, .list = {1, 3}};
  auto model = tiny_model(config);
  EXPECT_EQ(model->forward(tiny_context(2, 8, config.vocab_size)).statistics.size(), 2u);
}

TEST(Transformer, NumberOfParametersIsWhatTheConfigurationCounts) {
  for (const bool moe : {false, true}) {
    for (const bool tied : {false, true}) {
      auto config = tiny_config(moe);
      config.tie_embeddings = tied;
      config.qkv_bias = tied;
      if (moe) config.moe->shared_expert_ffn_hidden_size = 8;
      auto model = tiny_model(config);
      int64_t numel = 0;
      for (const auto& parameter : model->parameters()) numel += parameter.numel();
      EXPECT_EQ(count_parameters(config).total, numel);
    }
  }
}

TEST(Transformer, EveryParameterGetsAGradient) {
  const auto config = tiny_config();
  auto model = tiny_model(config);
  const auto context = tiny_context(2, 8, config.vocab_size);
  const auto logits = model->logits(model->forward(context).hidden_BSD).flatten(0, 1);
  cross_entropy_sum(logits, context.token_ids_BS.flatten(), context.mask_BS.flatten()).backward();
  for (const auto& item : model->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0.0) << item.key();
  }
}

TEST(Initialisation, DependsOnSeedNameAndGlobalExpertOnly) {
  const auto config = tiny_config();
  auto whole = tiny_model(config, at::kFloat);
  // The same layer as if experts 2 and 3 alone stood here.
  auto here = normal({2, 24, 16}, 1, at::kFloat);
  initialize_parameters({{.name = "layers.1.moe.experts.gate_up", .tensor = here, .decays = true, .num_experts = 4, .first_expert = 2}},
                        config, 7);
  EXPECT_TRUE(at::equal(here, whole->named_parameters()["layers.1.moe.experts.gate_up"].narrow(0, 2, 2)));
  auto other = tiny_model(config, at::kFloat, /*seed=*/8);
  EXPECT_FALSE(at::equal(other->named_parameters()["embedding"], whole->named_parameters()["embedding"]));
}

TEST(ParameterStore, ModulesAndFlatBuffersShareMemory) {
  const auto config = tiny_config();
  auto model = tiny_model(config, at::kFloat);
  const auto before = model->named_parameters()["layers.0.attention.qkv"].clone();
  ParameterStore store(model->parameters_by_name(), at::kFloat, at::kCPU, true);
  EXPECT_TRUE(at::equal(model->named_parameters()["layers.0.attention.qkv"], before));
  store.dense().master.fill_(0.5);
  EXPECT_EQ(model->named_parameters()["layers.0.attention.qkv"].min().item<double>(), 0.5);
  for (auto& group : store.groups()) {
    for (const auto& slot : group.slots) EXPECT_EQ(slot.offset % 16, 0) << slot.name;  // 64 bytes of fp32
  }
}

TEST(ParameterStore, DecayingParametersComeFirst) {
  const auto config = tiny_config();
  auto model = tiny_model(config, at::kFloat);
  ParameterStore store(model->parameters_by_name(), at::kFloat, at::kCPU, true);
  for (const auto& slot : store.dense().slots) {
    EXPECT_EQ(slot.decays, slot.offset < store.dense().decaying_numel) << slot.name;
    EXPECT_EQ(slot.decays, slot.shape.size() > 1) << slot.name;
  }
}

class GradientsByDtype : public ::testing::TestWithParam<std::pair<at::ScalarType, double>> {};

TEST_P(GradientsByDtype, AddUpInTheFlatBuffersOverTwoBackwards) {
  const auto [dtype, tolerance] = GetParam();
  const auto config = tiny_config();
  const auto gradients_after = [&](at::ScalarType run_dtype, int backwards) {
    auto model = tiny_model(config, at::kFloat);
    ParameterStore store(model->parameters_by_name(), run_dtype, at::kCPU, true);
    const auto context = tiny_context(2, 8, config.vocab_size);
    for (int i = 0; i < backwards; ++i) {
      const auto logits = model->logits(model->forward(context).hidden_BSD).flatten(0, 1);
      cross_entropy_sum(logits, context.token_ids_BS.flatten(), context.mask_BS.flatten()).backward();
    }
    std::vector<at::Tensor> all;  // slot by slot: the gaps between them depend on the dtype
    for (auto& group : store.groups()) {
      for (const auto& slot : group.slots) all.push_back(ParameterGroup::view(group.gradients, slot).flatten().to(at::kDouble));
    }
    return at::cat(all);
  };
  const auto reference = gradients_after(at::kDouble, 1), twice = gradients_after(dtype, 2);
  EXPECT_LT((twice - 2 * reference).norm().item<double>(), tolerance * (2 * reference).norm().item<double>());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, GradientsByDtype,
                         ::testing::Values(std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 0.1}));

}  // namespace
}  // namespace switchyard
