// The configurations of configs/published: each loads on as many ranks as it names, has the size that is known of its model, and computes
// when its widths are small. What is known of sizes stands in configs/published_figures.json.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/layout_run.h"
#include "training/run_config.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr double kTolerance = 0.005;

std::vector<std::string> presets() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(SWITCHYARD_SOURCE_DIR "/configs/published"))
    names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

json read_figures() {
  std::ifstream file(SWITCHYARD_SOURCE_DIR "/configs/published_figures.json");
  return json::parse(file).at("presets");
}

/// "671B" or "1.04T", and half of what its last digit counts.
struct Stated {
  double value = 0.0;
  double rounding = 0.0;

  explicit Stated(const std::string& text) {
    const double unit = text.back() == 'T' ? 1e12 : 1e9;
    const auto point = text.find('.');
    const auto decimals = point == std::string::npos ? 0 : text.size() - 1 - point - 1;
    value = std::stod(text) * unit;
    rounding = 0.5 * unit * std::pow(10.0, -static_cast<double>(decimals));
  }

  bool is_met_by(int64_t count) const {
    const double difference = std::abs(static_cast<double>(count) - value);
    return difference <= std::max(rounding, kTolerance * value);
  }
};

/// The same kinds of parts, few and narrow.
ModelConfig shrunk(ModelConfig model) {
  model.vocab_size = 61;
  model.num_layers = std::min<int64_t>(model.num_layers, 4);
  model.hidden_size = 32;
  model.ffn_hidden_size = 48;
  model.num_key_value_heads = model.num_key_value_heads == model.num_attention_heads ? 4 : 2;
  model.num_attention_heads = 4;
  model.head_dim = 8;
  model.max_sequence_length = 12;
  model.init_std = 0.1;
  auto& attention = model.attention;
  if (attention.is_latent()) {
    attention.kv_lora_rank = 8;
    if (attention.q_lora_rank > 0) attention.q_lora_rank = 16;
    attention.qk_nope_head_dim = attention.v_head_dim = 8;
    attention.qk_rope_head_dim = 4;
  }
  if (attention.window > 0) attention.window = 4;
  if (attention.chunk > 0) attention.chunk = 4;
  auto& moe = model.moe.value();
  moe.num_experts = 32;
  moe.ffn_hidden_size = 16;
  if (moe.shared_expert_ffn_hidden_size > 0) moe.shared_expert_ffn_hidden_size = 16;
  std::erase_if(moe.layers.list, [&](int64_t layer) { return layer >= model.num_layers; });
  return model;
}

class PublishedPreset : public testing::TestWithParam<std::string> {
 protected:
  static ParameterCounts counts() { return count_parameters(load(0).model); }

  static RunConfig load(int64_t world_size) {
    return load_run_config(SWITCHYARD_SOURCE_DIR "/configs/published/" + GetParam() + ".yaml", {}, world_size);
  }

  static json figures() { return read_figures().at(GetParam()); }

  /// Blocks of multi-token prediction are no part of published sizes.
  static int64_t published_total() { return counts().total - counts().prediction; }
};

TEST(PublishedPresets, AreThoseWhoseFiguresAreKnown) {
  const json figures = read_figures();
  std::vector<std::string> known;
  for (const auto& item : figures.items()) known.push_back(item.key());
  EXPECT_EQ(presets(), known);
}

TEST(StatedFigure, IsMetWithinItsRoundingOrHalfAPercent) {
  EXPECT_TRUE(Stated("37B").is_met_by(36'600'000'000));
  EXPECT_FALSE(Stated("37B").is_met_by(36'400'000'000));
  EXPECT_TRUE(Stated("1.04T").is_met_by(1'045'000'000'000));
  EXPECT_FALSE(Stated("1.04T").is_met_by(1'046'000'000'000));
  EXPECT_TRUE(Stated("116.83B").is_met_by(117'400'000'000));
  EXPECT_FALSE(Stated("116.83B").is_met_by(117'500'000'000));
}

TEST_P(PublishedPreset, LoadsOnAsManyRanksAsShareItsExperts) {
  const RunConfig config = load(load(0).parallel.expert);
  EXPECT_EQ(config.name, GetParam());
  EXPECT_GT(config.parallel.expert, 1);
  EXPECT_TRUE(config.model.moe.has_value());
}

TEST_P(PublishedPreset, HasTheSizeOfTheFormula) {
  const auto known = figures();
  if (!known.contains("reference")) {
    EXPECT_FALSE(known.at("source").get<std::string>().empty());
    return;
  }
  const auto& reference = known.at("reference");
  const auto expect_near = [](int64_t count, const json& billions) {
    if (billions.is_null()) return;
    const double expected = billions.get<double>() * 1e9;
    EXPECT_NEAR(static_cast<double>(count), expected, kTolerance * expected);
  };
  expect_near(published_total(), reference.at(0));
  expect_near(counts().active, reference.at(1));
  expect_near(counts().active_without_embedding, reference.at(2));
}

TEST_P(PublishedPreset, HasTheSizeThatItsAuthorsStateOrAReason) {
  const auto known = figures();
  const auto& stated = known.at("stated");
  bool is_met = true;
  if (!stated.at("total").is_null()) is_met = Stated(stated.at("total").get<std::string>()).is_met_by(published_total());
  if (!stated.at("active").is_null()) {
    const int64_t active = stated.at("active_embedding").get<bool>() ? counts().active : counts().active_without_embedding;
    is_met = is_met && Stated(stated.at("active").get<std::string>()).is_met_by(active);
  }
  EXPECT_NE(is_met, known.contains("why")) << "total " << published_total() << ", active " << counts().active << ", without the embedding "
                                           << counts().active_without_embedding;
}

TEST_P(PublishedPreset, LearnsTheTokensThatItSeesWhenShrunk) {
  LayoutCase job;
  job.model = shrunk(load(0).model);
  for (const auto& fault : find_faults(job.model)) FAIL() << fault.key << " " << fault.problem;
  job.dtype = at::kFloat;
  job.steps = 6;
  // The same tokens in every step.
  job.tokens_NGS = at::arange(8 * 13, at::kLong).square().remainder(61).view({1, 8, 13}).expand({job.steps, 8, 13}).contiguous();
  job.mask_GS = at::ones({8, 12}, at::kBool);
  const auto run = train_here(job, make_single_communicator());
  for (const auto& step : run.steps) EXPECT_TRUE(std::isfinite(step.loss));
  EXPECT_LT(run.steps.back().cross_entropy, run.steps.front().cross_entropy);
}

TEST_P(PublishedPreset, PredictsFurtherTokensOnlyWhereItsModelDoes) {
  EXPECT_EQ(counts().prediction > 0, GetParam() == "deepseek_v3");
}

INSTANTIATE_TEST_SUITE_P(Configs, PublishedPreset, testing::ValuesIn(presets()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace switchyard
