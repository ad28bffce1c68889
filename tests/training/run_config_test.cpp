#include "training/run_config.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/training/config_file.h"

namespace switchyard {
namespace {

// Every key, none at its default: what is read, written or compared wrongly shows.
const char* const kEveryKey = R"(config_version: 1
name: "all"
model:
  vocab_size: 300
  num_layers: 6
  hidden_size: 24
  ffn_hidden_size: 40
  activation: geglu
  sequence_mixer: attention
  num_attention_heads: 6
  num_key_value_heads: 3
  head_dim: 8
  max_sequence_length: 64
  rope_theta: 500000
  norm_eps: 1e-06
  init_std: 0.01
  tie_embeddings: true
  norm_placement: post
  qkv_bias: true
  ffn_bias: true
  mtp_layers: 2
  mtp_loss_coeff: 0.3
  attention:
    output_bias: true
    qk_norm: unit
    clip_qkv: 8
    sinks: true
    window: 16
    chunk: 0
    full_layers: {every: 3}
    nope_layers: [1, 2]
    temperature_scale: 0.1
    temperature_floor: 4096
    kv_lora_rank: 0
  rope:
    interleaved: true
    fraction: 0.5
    scaling: yarn
    factor: 4
    original_length: 16
    beta_fast: 30
    beta_slow: 2
    truncate: false
    attention_factor: 1.2
    mscale: 0.8
    mscale_all_dim: 0.9
  moe:
    num_experts: 12
    num_experts_by_layer: {2: 24}
    top_k: 3
    ffn_hidden_size: 10
    activation: clamped_swiglu
    nested_experts: 4
    nested_top_k: 3
    expert_bias: true
    expert_dropout: 0.3
    shared_expert_ffn_hidden_size: 14
    shared_expert_gate: true
    residual: false
    layers: [1, 2, 5]
    router: "top_k"
    score: sigmoid
    renormalize: false
    scale: 2.5
    bias_update: 0.001
    apply: input
    router_bias: true
    input_jitter: 0.04
    groups: 4
    group_top_k: 2
    group_score: best_two
    aux_loss_coeff: {0: 0.02, 100: 0.01}
    aux_loss_scope: sequence
    aux_loss_form: megatron
    aux_loss_counts: first_choice
    sequence_loss_coeff: 0.0001
    importance_loss_coeff: 0.05
    importance_loss_scope: lagged
    load_loss_coeff: 0
    load_loss_scope: running
    group_loss_coeff: 0.06
    group_loss_scope: micro_batch
    communication_loss_coeff: 0.07
    communication_loss_scope: sequence
    nested_loss_coeff: 0.08
    z_loss_coeff: 0.003
    domains: 3
    domain_loss_coeff: 0.2
    capacity_factor: 1.5
    eval_capacity_factor: 2
    capacity_group: {sequences: 2}
    min_capacity: 4
    drop_order: random
parallel:
  expert: 4
  rank_order: expert_outer
  zero_stage: 1
  gradient_bucket_size: 1000
  overlap_gradient_sync: true
  dispatch_chunks: 3
  overlap_shared_expert: false
  all_to_all: hierarchical
  timeout_seconds: 30
data:
  format: tokens
  token_dtype: uint32
  sequence_length: 32
  reset_attention_mask: true
  reset_position_ids: true
  sources:
    - name: "first"
      path: ["a.bin", "b.bin"]
      validation_path: ["c.bin"]
      validation_fraction: 0
      weight: 2
    - name: "with \"quotes\""
      path: ["d.bin"]
      validation_path: []
      validation_fraction: 0.1
      weight: 0.3
optimizer:
  learning_rate: 0.0003
  beta1: 0.8
  beta2: 0.99
  eps: 1e-10
  weight_decay: 0.05
  clip_grad_norm: 0.5
schedule:
  kind: wsd
  warmup_steps: 7
  min_ratio: 0.2
  decay_fraction: 0.4
training:
  steps: 90
  max_minutes: 2.5
  seed: 99
  precision: fp64
  device: cpu
  global_batch_size: 32
  micro_batch_size: 4
  threads: 3
  non_finite: skip
  recompute: block
routing:
  record: "choices"
  replay: null
evaluation:
  every: 10
  max_sequences: 11
checkpoint:
  every: 20
  keep: 5
  at_end: false
  on_failure: stop
logging:
  every: 3
  tensorboard: false
  peak_gflops: 123.5
)";

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
