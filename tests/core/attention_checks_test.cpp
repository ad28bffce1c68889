// What the rules of attention refuse, each with the key that it names.
#include <gtest/gtest.h>

#include <functional>

#include "tests/core/attention_kinds.h"

namespace switchyard {
namespace {

struct BadModel {
  const char* name;
  const char* key;
  std::function<void(ModelConfig&)> change;
  bool is_latent = false;
};

std::vector<BadModel> bad_models() {
  return {
      {"HeadsNotDivisible", "model.num_attention_heads", [](ModelConfig& c) { c.num_key_value_heads = 3; }},
      {"OddHead", "model.head_dim", [](ModelConfig& c) { c.head_dim = 5; }},
      {"OddPartOfAHead", "model.rope.fraction", [](ModelConfig& c) { c.rope.fraction = 0.25; }},
      {"WindowAndChunk", "model.attention.chunk", [](ModelConfig& c) { c.attention.window = c.attention.chunk = 4; }},
      {"FullBlocksOfNothing", "model.attention.full_layers", [](ModelConfig& c) { c.attention.full_layers = {}; }},
      {"BlockThatIsNotThere", "model.attention.nope_layers",
       [](ModelConfig& c) { c.attention.nope_layers = {.kind = LayerSet::Kind::kList, .count = 1, .list = {2}}; }},
      {"BlockTwice", "model.attention.nope_layers",
       [](ModelConfig& c) {
         c.attention.nope_layers = {.kind = LayerSet::Kind::kList, .count = 1, .list = {1, 1}};
       }},
      {"TemperatureOfNothing", "model.attention.temperature_scale", [](ModelConfig& c) { c.attention.temperature_scale = 0.1; }},
      {"UnitNormOfNothing", "model.attention.qk_norm",
       [](ModelConfig& c) {
         c.attention.qk_norm = QkNorm::kUnit;
         c.attention.nope_layers = {};
       }},
      {"FactorOfNothing", "model.rope.factor", [](ModelConfig& c) { c.rope.factor = 2.0; }},
      {"ScalingFromNowhere", "model.rope.original_length", [](ModelConfig& c) { c.rope.scaling = RopeScaling::kYarn; }},
      {"FrequenciesCrossed", "model.rope.high_freq_factor",
       [](ModelConfig& c) {
         c.rope.scaling = RopeScaling::kLlama3;
         c.rope.original_length = 4;
         c.rope.high_freq_factor = 0.5;
       }},
      {"BetasCrossed", "model.rope.beta_fast",
       [](ModelConfig& c) {
         c.rope.scaling = RopeScaling::kYarn;
         c.rope.original_length = 4;
         c.rope.beta_fast = 0.5;
       }},
      {"LatentWidthWithoutLatent", "model.attention.v_head_dim", [](ModelConfig& c) { c.attention.v_head_dim = 4; }},
      {"LatentWithoutWidth", "model.attention.v_head_dim", [](ModelConfig& c) { c.attention.v_head_dim = 0; }, true},
      {"LatentOddRope", "model.attention.qk_rope_head_dim", [](ModelConfig& c) { c.attention.qk_rope_head_dim = 3; }, true},
      {"LatentWithSinks", "model.attention.sinks", [](ModelConfig& c) { c.attention.sinks = true; }, true},
      {"LatentWithGroups", "model.num_key_value_heads", [](ModelConfig& c) { c.num_key_value_heads = 2; }, true},
      {"LatentWithQkNorm", "model.attention.qk_norm", [](ModelConfig& c) { c.attention.qk_norm = QkNorm::kHead; }, true},
      {"LatentWithoutPositions", "model.attention.nope_layers", [](ModelConfig& c) { c.attention.nope_layers = {}; }, true},
      {"LstmWithWindow", "model.attention.window",
       [](ModelConfig& c) {
         c.sequence_mixer = SequenceMixer::kLstm;
         c.attention.window = 3;
       }},
      {"NegativePrediction", "model.mtp_layers", [](ModelConfig& c) { c.mtp_layers = -1; }},
  };
}

class BadAttention : public ::testing::TestWithParam<BadModel> {};

TEST_P(BadAttention, IsRefusedByItsKey) {
  auto config = GetParam().is_latent ? tiny_latent_config() : tiny_config();
  ASSERT_TRUE(find_faults(config).empty());
  GetParam().change(config);
  const auto faults = find_faults(config);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].key, GetParam().key);
  EXPECT_NE(faults[0].problem.find(';'), std::string::npos) << "what is to be done? " << faults[0].problem;
}

TEST(GoodAttention, NormsUnitsWhereTheFirstBlockAloneHasNoPositions) {
  auto config = tiny_config();
  config.attention.qk_norm = QkNorm::kUnit;
  config.attention.nope_layers = {.kind = LayerSet::Kind::kList, .count = 1, .list = {0}};
  EXPECT_TRUE(find_faults(config).empty());
}

INSTANTIATE_TEST_SUITE_P(Models, BadAttention, ::testing::ValuesIn(bad_models()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace switchyard
