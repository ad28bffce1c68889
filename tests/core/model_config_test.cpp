#include "core/model_config.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

ModelConfig tiny_dense() {
  ModelConfig config;
  config.vocab_size = 10;
  config.num_layers = 2;
  config.hidden_size = 8;
  config.ffn_hidden_size = 12;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 2;
  config.max_sequence_length = 16;
  return config;
}

ModelConfig tiny_moe() {
  ModelConfig config = tiny_dense();
  config.moe.emplace();
  config.moe->num_experts = 4;
  config.moe->top_k = 2;
  config.moe->ffn_hidden_size = 5;
  config.moe->layers = {.kind = LayerSet::Kind::kEvery, .count = 2};
  return config;
}

ModelConfig mixtral_8x7b() {
  ModelConfig config;
  config.vocab_size = 32000;
  config.num_layers = 32;
  config.hidden_size = 4096;
  config.num_attention_heads = 32;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.max_sequence_length = 32768;
  config.moe.emplace();
  config.moe->ffn_hidden_size = 14336;
  return config;
}

std::vector<int64_t> moe_layers(const LayerSet& layers, int64_t num_layers) {
  std::vector<int64_t> found;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (layers.contains(layer)) found.push_back(layer);
  }
  return found;
}

using Layers = std::vector<int64_t>;

TEST(LayerSet, EveryNTakesTheLastOfEachNBlocks) {
  EXPECT_EQ(moe_layers({.kind = LayerSet::Kind::kEvery, .count = 1}, 4), (Layers{0, 1, 2, 3}));
  EXPECT_EQ(moe_layers({.kind = LayerSet::Kind::kEvery, .count = 2}, 5), (Layers{1, 3}));
  EXPECT_EQ(moe_layers({.kind = LayerSet::Kind::kEvery, .count = 3}, 7), (Layers{2, 5}));
}

TEST(LayerSet, FirstDenseLeavesOutTheFirstBlocks) {
  EXPECT_EQ(moe_layers({.kind = LayerSet::Kind::kFirstDense, .count = 0}, 3), (Layers{0, 1, 2}));
  EXPECT_EQ(moe_layers({.kind = LayerSet::Kind::kFirstDense, .count = 3}, 5), (Layers{3, 4}));
}

TEST(LayerSet, AListTakesJustItsBlocks) {
  EXPECT_EQ(moe_layers({.kind = LayerSet::Kind::kList, .list = {0, 3}}, 5), (Layers{0, 3}));
}

TEST(LayerSet, ADenseModelHasNone) {
  EXPECT_EQ(tiny_dense().num_moe_layers(), 0);
  EXPECT_FALSE(tiny_dense().is_moe_layer(1));
  EXPECT_EQ(tiny_moe().num_moe_layers(), 1);
}

TEST(ParameterCounts, OfADenseModelAgreeWithPaper) {
  // embedding 10*8 = 80, head 80; a block: q 8*8 + k 8*4 + v 8*4 + o 8*8 = 192, feed-forward 3*8*12 = 288, norms 16; last norm 8.
  const ParameterCounts counts = count_parameters(tiny_dense());
  EXPECT_EQ(counts.total, 80 + 80 + 2 * (192 + 288 + 16) + 8);
  EXPECT_EQ(counts.active, counts.total);
  EXPECT_EQ(counts.active_without_embedding, counts.total - 80);
}

TEST(ParameterCounts, OfAnMoeModelCountTopKExpertsAsActive) {
  // Block 1: router 8*4 = 32 and experts of 3*8*5 = 120 in place of the feed-forward.
  const ParameterCounts counts = count_parameters(tiny_moe());
  const int64_t common = 80 + 80 + 2 * (192 + 16) + 8 + 288 + 32;
  EXPECT_EQ(counts.total, common + 4 * 120);
  EXPECT_EQ(counts.active, common + 2 * 120);
  EXPECT_EQ(counts.active_without_embedding, common + 2 * 120 - 80);
}

TEST(ParameterCounts, CountSharedExpertGateAndBiases) {
  const int64_t before = count_parameters(tiny_moe()).active;
  ModelConfig config = tiny_moe();
  config.moe->shared_expert_ffn_hidden_size = 7;
  EXPECT_EQ(count_parameters(config).active, before + 3 * 8 * 7);
  config.moe->shared_expert_gate = true;
  EXPECT_EQ(count_parameters(config).active, before + 3 * 8 * 7 + 8);
  config.qkv_bias = true;
  EXPECT_EQ(count_parameters(config).active, before + 3 * 8 * 7 + 8 + 2 * (8 + 4 + 4));
}

TEST(ParameterCounts, ATiedTableIsCountedOnceAndIsAlwaysActive) {
  ModelConfig config = tiny_dense();
  const int64_t untied = count_parameters(config).total;
  config.tie_embeddings = true;
  EXPECT_EQ(count_parameters(config).total, untied - 80);
  EXPECT_EQ(count_parameters(config).active, untied - 80);
  EXPECT_EQ(count_parameters(config).active_without_embedding, untied - 80);
}

TEST(ParameterCounts, OfMixtral8x7bAreThePublishedOnes) {
  const ParameterCounts counts = count_parameters(mixtral_8x7b());
  EXPECT_EQ(counts.total, 46'702'792'704);
  EXPECT_EQ(counts.active, 12'879'925'248);
  EXPECT_EQ(counts.active_without_embedding, 12'879'925'248 - 32000 * 4096);
}

TEST(TrainingFlops, CountActiveMatricesSixTimesAndHalfTheAttentionSquare) {
  // Matrices of tiny_moe that a token meets: head 80, attention 2*192, feed-forward 288, router 32, two experts 240.
  // Attention over 16 positions: 8 seen on average, scores and values of 4 heads of 2, two blocks: 2 * 2 * 8 * 8 = 256 multiply-adds.
  EXPECT_DOUBLE_EQ(training_flops_per_token(tiny_moe(), 16), 6.0 * (80 + 384 + 288 + 32 + 240 + 256));
}

TEST(TrainingFlops, OfMixtral8x7bAre79Point7GigaflopsAToken) {
  EXPECT_NEAR(training_flops_per_token(mixtral_8x7b(), 4096) / 1e9, 79.71, 0.005);
}

struct BadModel {
  std::string name;
  void (*spoil)(ModelConfig&);
  std::string key;
  std::string words;
};

void PrintTo(const BadModel& bad, std::ostream* out) {
  *out << bad.name;
}

class ModelFaults : public testing::TestWithParam<BadModel> {};

TEST_P(ModelFaults, NameTheKeyAndTheRule) {
  ModelConfig config = tiny_moe();
  ASSERT_TRUE(find_faults(config).empty());
  GetParam().spoil(config);
  const std::vector<ConfigFault> faults = find_faults(config);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].key, GetParam().key);
  EXPECT_NE(faults[0].problem.find(GetParam().words), std::string::npos) << faults[0].problem;
}

INSTANTIATE_TEST_SUITE_P(
    All, ModelFaults,
    testing::Values(
        BadModel{"NoVocabulary", [](ModelConfig& c) { c.vocab_size = 0; }, "model.vocab_size", "not positive"},
        BadModel{"NoExpertWidth", [](ModelConfig& c) { c.moe->ffn_hidden_size = 0; }, "model.moe.ffn_hidden_size", "not positive"},
        BadModel{"UnevenHeads", [](ModelConfig& c) { c.num_key_value_heads = 3; }, "model.num_attention_heads", "num_key_value_heads = 3"},
        BadModel{"OddHead", [](ModelConfig& c) { c.head_dim = 3; }, "model.head_dim", "odd"},
        BadModel{"TooManyChoices", [](ModelConfig& c) { c.moe->top_k = 5; }, "model.moe.top_k", "num_experts = 4; use at most 4"},
        BadModel{"GateWithoutExpert", [](ModelConfig& c) { c.moe->shared_expert_gate = true; }, "model.moe.shared_expert_gate",
                 "no shared"},
        BadModel{"UnknownRouter", [](ModelConfig& c) { c.moe->router = "soft"; }, "model.moe.router", "top_k"},
        BadModel{"RenormalizedTopOne", [](ModelConfig& c) { c.moe->top_k = 1; }, "model.moe.renormalize", "use false"},
        BadModel{"PooledSequences",
                 [](ModelConfig& c) {
                   c.moe->aux_loss_form = AuxLossForm::kHuggingFace;
                   c.moe->aux_loss_scope = AuxLossScope::kSequence;
                 },
                 "model.moe.aux_loss_form", "aux_loss_scope = sequence"},
        BadModel{"NoSlots", [](ModelConfig& c) { c.moe->capacity_factor = 0.0; }, "model.moe.capacity_factor", "not positive"},
        BadModel{"FullJitter", [](ModelConfig& c) { c.moe->input_jitter = 1.0; }, "model.moe.input_jitter", "less than 1"},
        BadModel{"EveryThirdOfTwo", [](ModelConfig& c) { c.moe->layers.count = 3; }, "model.moe.layers", "n from 1 to 2"},
        BadModel{"AllDense",
                 [](ModelConfig& c) {
                   c.moe->layers = {LayerSet::Kind::kFirstDense, 2};
                 },
                 "model.moe.layers", "n from 0 to 1"},
        BadModel{"EmptyList",
                 [](ModelConfig& c) {
                   c.moe->layers = {LayerSet::Kind::kList, 1, {}};
                 },
                 "model.moe.layers", "empty"},
        BadModel{"Descending",
                 [](ModelConfig& c) {
                   c.moe->layers = {LayerSet::Kind::kList, 1, {1, 0}};
                 },
                 "model.moe.layers", "ascending"},
        BadModel{"Outside",
                 [](ModelConfig& c) {
                   c.moe->layers = {LayerSet::Kind::kList, 1, {1, 2}};
                 },
                 "model.moe.layers", "use 0 to 1"},
        BadModel{"Overflow",
                 [](ModelConfig& c) {
                   c.hidden_size = c.moe->ffn_hidden_size = int64_t{1} << 24;
                   c.moe->num_experts = 1 << 20;
                 },
                 "model.hidden_size", "9e18"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace switchyard
