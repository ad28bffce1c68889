#include "training/run_config.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/training/config_file.h"
#include "tests/training/every_key.h"

namespace switchyard {
namespace {

TEST(RunConfig, WritesEveryKeyAsItWasRead) {
  EXPECT_EQ(to_yaml(load(kEveryKey, {}, /*world_size=*/4)), kEveryKey);
}

TEST(RunConfig, WritesKeysThatOthersGiveAMeaning) {
  const auto text =
      to_yaml(load(kEveryKey,
                   {"model.num_key_value_heads=6",
                    "model.attention={kv_lora_rank: 9, q_lora_rank: 7, qk_nope_head_dim: 5, qk_rope_head_dim: 2, v_head_dim: 3}",
                    "model.rope={scaling: llama3, factor: 2, original_length: 16, low_freq_factor: 1.5, high_freq_factor: 5}"},
                   4));
  for (const char* line : {"kv_lora_rank: 9", "q_lora_rank: 7", "qk_nope_head_dim: 5", "qk_rope_head_dim: 2", "v_head_dim: 3",
                           "low_freq_factor: 1.5", "high_freq_factor: 5"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  EXPECT_EQ(to_yaml(load(text, {}, 4)), text);
}

TEST(RunConfig, PutsEachKeyIntoItsField) {
  const RunConfig config = load(kEveryKey, {}, /*world_size=*/4);
  EXPECT_EQ(config.name, "all");
  EXPECT_EQ(config.model.num_key_value_heads, 3);
  EXPECT_EQ(config.model.norm_eps, 1e-6);
  ASSERT_TRUE(config.model.moe.has_value());
  EXPECT_EQ(config.model.moe->layers.list, (std::vector<int64_t>{1, 2, 5}));
  EXPECT_EQ(config.model.moe->aux_loss_scope, AuxLossScope::kSequence);
  EXPECT_EQ(config.model.moe->capacity_factor, 1.5);
  EXPECT_EQ(config.model.moe->capacity_group.sequences, 2);
  EXPECT_EQ(config.model.moe->drop_order, DropOrder::kRandom);
  EXPECT_EQ(config.model.moe->num_experts_by_layer, (std::map<int64_t, int64_t>{{2, 24}}));
  EXPECT_EQ(config.model.moe->nested_experts, 4);
  EXPECT_EQ(config.model.moe->nested_top_k, 3);
  EXPECT_EQ(config.model.moe->nested_loss_coeff.at(1), 0.08);
  ASSERT_EQ(config.data.sources.size(), 2u);
  EXPECT_EQ(config.data.sources[0].paths, (std::vector<std::string>{"a.bin", "b.bin"}));
  EXPECT_EQ(config.data.sources[1].name, "with \"quotes\"");
  EXPECT_EQ(config.data.sources[1].validation_fraction, 0.1);
  EXPECT_EQ(config.optimizer.beta2, 0.99);
  EXPECT_EQ(config.schedule.kind, ScheduleKind::kWsd);
  EXPECT_EQ(config.training.precision, Precision::kFp64);
  EXPECT_EQ(config.training.non_finite, NonFinitePolicy::kSkip);
  EXPECT_EQ(config.checkpoint.keep, 5);
  EXPECT_FALSE(config.logging.tensorboard);
}

TEST(RunConfig, LeavesOutWhatHasNoMeaningAndStillReadsBack) {
  const std::string text = to_yaml(load(kDenseConfig));
  EXPECT_EQ(text.find("moe:"), std::string::npos);
  EXPECT_EQ(text.find("token_dtype"), std::string::npos);
  EXPECT_EQ(text.find("decay_fraction"), std::string::npos);
  EXPECT_EQ(to_yaml(load(text)), text);
  const std::string dropless = to_yaml(load(kMoeConfig, {"model.moe.capacity_factor=null"}));
  EXPECT_EQ(dropless.find("capacity_group"), std::string::npos);
  EXPECT_EQ(to_yaml(load(dropless)), dropless);
}

TEST(RunConfig, TakesItsNameFromTheFile) {
  const ConfigFile file(kDenseConfig);
  EXPECT_EQ(load_run_config(file.path(), {}, 1).name, std::filesystem::path(file.path()).stem());
}

TEST(RunConfig, DerivesHeadSizesSequenceLengthAndRenormalisation) {
  const RunConfig config = load(kMoeConfig, {"model.hidden_size=96", "model.num_attention_heads=6", "model.max_sequence_length=48"});
  EXPECT_EQ(config.model.head_dim, 16);
  EXPECT_EQ(config.model.num_key_value_heads, 6);
  EXPECT_EQ(config.data.sequence_length, 48);
  EXPECT_TRUE(config.model.moe->renormalize);
  EXPECT_FALSE(load(kMoeConfig, {"model.moe.top_k=1"}).model.moe->renormalize);
}

TEST(RunConfig, KeepsAHeadSizeThatIsGiven) {
  const RunConfig config = load(kMoeConfig, {"model.head_dim=10", "model.num_key_value_heads=2"});
  EXPECT_EQ(config.model.head_dim, 10);
  EXPECT_EQ(config.model.num_key_value_heads, 2);
}

TEST(WorldSize, ZeroLeavesOutTheRulesAboutRanks) {
  EXPECT_EQ(load(kMoeConfig, {"parallel.expert=4"}, /*world_size=*/0).parallel.expert, 4);
  EXPECT_THROW(load(kMoeConfig, {"parallel.expert=4"}, /*world_size=*/1), UserError);
}

TEST(Jobs, DifferOnlyByWhatChangesTheAnswer) {
  const RunConfig config = load(kMoeConfig, {}, 2);
  const RunConfig other_run = load(kMoeConfig,
                                   {"parallel.expert=2", "training.steps=99", "training.micro_batch_size=8", "training.threads=2",
                                    "evaluation.max_sequences=3", "checkpoint.keep=7", "logging.every=9", "name=x"},
                                   2);
  EXPECT_TRUE(job_differences(config, other_run).empty());
  EXPECT_EQ(job_hash(config), job_hash(other_run));
}

TEST(Jobs, NameTheKeyWithOldAndNewValue) {
  const RunConfig before = load(kMoeConfig);
  const RunConfig after = load(
      kMoeConfig, {"training.seed=2", "model.moe.layers={every: 2}", "schedule.kind=constant", "data.sources=[{name: a, path: b.txt}]"});
  const std::vector<std::string> expected = {"model.moe.layers: all -> {every: 2}", "schedule.kind: cosine -> constant",
                                             "schedule.min_ratio: 0.1 -> (absent)", "training.seed: 1234 -> 2",
                                             "data.sources[0].path: [\"a.txt\"] -> [\"b.txt\"]"};
  EXPECT_EQ(job_differences(before, after), expected);
  EXPECT_NE(job_hash(before), job_hash(after));
  EXPECT_EQ(job_differences(after, before).back(), "schedule.min_ratio: (absent) -> 0.1");
}

TEST(Jobs, DifferByTheSecondSource) {
  const std::string one = "data.sources=[{name: a, path: a.txt}]";
  const std::string two = "data.sources=[{name: a, path: a.txt}, {name: b, path: b.txt}]";
  EXPECT_EQ(job_differences(load(kMoeConfig, {one}), load(kMoeConfig, {two})).front(), "data.sources[1].name: (absent) -> \"b\"");
}

TEST(Reference, IsTheDocument) {
  std::ifstream file(SWITCHYARD_SOURCE_DIR "/docs/configuration.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(text.str() == configuration_reference()) << "docs/configuration.md is not up to date; write it anew:\n"
                                                       << "  build/release/switchyard check --keys > docs/configuration.md";
}

struct ShippedConfig {
  std::string path;
  int64_t world_size;
  double billions_total;
  double billions_active;
};

void PrintTo(const ShippedConfig& config, std::ostream* out) {
  *out << config.path;
}

class ShippedConfigs : public testing::TestWithParam<ShippedConfig> {};

TEST_P(ShippedConfigs, LoadAndHaveTheirStatedSize) {
  const RunConfig config = load_run_config(SWITCHYARD_SOURCE_DIR "/configs/" + GetParam().path, {}, GetParam().world_size);
  const ParameterCounts counts = count_parameters(config.model);
  EXPECT_NEAR(static_cast<double>(counts.total) / 1e9, GetParam().billions_total, 0.005);
  EXPECT_NEAR(static_cast<double>(counts.active) / 1e9, GetParam().billions_active, 0.005);
}

INSTANTIATE_TEST_SUITE_P(All, ShippedConfigs,
                         testing::Values(ShippedConfig{"quickstart.yaml", 2, 0.0035, 0.0012},
                                         ShippedConfig{"quickstart.yaml", 4, 0.0035, 0.0012},
                                         ShippedConfig{"small/mixtral.yaml", 1, 0.0034, 0.001},
                                         ShippedConfig{"small/dense.yaml", 1, 0.001, 0.001}));

}  // namespace
}  // namespace switchyard
