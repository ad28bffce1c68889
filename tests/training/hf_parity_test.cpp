// The families of Hugging Face against transformers, of which nothing is needed here: the fixtures hold what it computed.
#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/parity/comparison.h"
#include "tests/temporary_folder.h"
#include "tests/training/hf_fixtures.h"

namespace switchyard {
namespace {

class HfParity : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(HfParity, ComputesWhatTransformersComputes) {
  const auto result = compare_with_transformers(GetParam());
  for (const auto& rule : kParityRules) {
    if (const auto worst = result.of(rule.quantity)) RecordProperty(rule.name, fmt::format("{:.1e}", *worst));
  }
  for (const auto& miss : result.misses()) ADD_FAILURE() << miss;
}

INSTANTIATE_TEST_SUITE_P(Models, HfParity, ::testing::ValuesIn(parity_folders(kHfFixtures)),
                         [](const auto& info) { return info.param.filename().string(); });

/// One number or word of a config.json.
struct Change {
  const char* fixture;
  const char* pointer;  ///< JSON pointer
  const char* value;
};

class HfParityWithAnotherConfig : public ::testing::TestWithParam<Change> {};

TEST_P(HfParityWithAnotherConfig, IsLost) {
  const auto& change = GetParam();
  TemporaryFolder folder;
  std::filesystem::copy(kHfFixtures / change.fixture, folder.path());
  auto config = nlohmann::json::parse(std::ifstream(folder.path() / "config.json"));
  auto& value = config.at(nlohmann::json::json_pointer(change.pointer));
  const auto other = nlohmann::json::parse(change.value);
  ASSERT_NE(value, other);
  value = other;
  std::ofstream(folder.path() / "config.json") << config;
  EXPECT_FALSE(compare_with_transformers(folder.path()).misses().empty());
}

/// "llama/rope_parameters/factor" as a name.
std::string name_of(const Change& change) {
  std::string name = std::string(change.fixture) + change.pointer;
  std::ranges::replace(name, '/', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Keys, HfParityWithAnotherConfig,
    ::testing::Values(
        Change{"llama", "/rope_parameters/factor", "3.0"}, Change{"llama", "/rope_parameters/low_freq_factor", "0.5"},
        Change{"llama", "/rope_parameters/high_freq_factor", "5.0"},
        Change{"llama", "/rope_parameters/original_max_position_embeddings", "32"},
        Change{"llama", "/rope_parameters/rope_theta", "400000.0"}, Change{"llama", "/rms_norm_eps", "0.0001"},
        Change{"llama_biased", "/rope_parameters/factor", "3.0"}, Change{"mistral", "/sliding_window", "6"},
        Change{"olmo2", "/rope_parameters/rope_theta", "10000.0"}, Change{"olmo2", "/rms_norm_eps", "0.0001"},
        Change{"qwen3", "/sliding_window", "5"}, Change{"qwen3", "/layer_types/0", "\"sliding_attention\""},
        Change{"mixtral", "/num_experts_per_tok", "2"}, Change{"mixtral", "/router_aux_loss_coef", "0.123"},
        Change{"mixtral_window", "/sliding_window", "4"}, Change{"mixtral_window", "/rope_theta", "100000.0"},
        Change{"qwen2_moe", "/norm_topk_prob", "true"}, Change{"qwen2_moe_window", "/sliding_window", "5"},
        Change{"qwen2_moe_window", "/layer_types/1", "\"sliding_attention\""}, Change{"qwen2_moe_window", "/norm_topk_prob", "false"},
        Change{"qwen3_moe", "/norm_topk_prob", "false"}, Change{"olmoe", "/clip_qkv", "1.0"}, Change{"olmoe", "/norm_topk_prob", "true"},
        Change{"flex_olmo", "/rms_norm_eps", "1e-05"}, Change{"flex_olmo", "/rope_parameters/rope_theta", "10000.0"},
        Change{"deepseek_v2", "/topk_group", "3"}, Change{"deepseek_v2", "/n_group", "2"},
        Change{"deepseek_v2", "/topk_method", "\"greedy\""}, Change{"deepseek_v2", "/routed_scaling_factor", "1.0"},
        Change{"deepseek_v2", "/rope_parameters/mscale", "0.8"}, Change{"deepseek_v2", "/rope_parameters/mscale_all_dim", "0.8"},
        Change{"deepseek_v2", "/rope_parameters/beta_fast", "64"}, Change{"deepseek_v2_lite", "/rope_scaling/mscale", "1.1"},
        Change{"deepseek_v2_lite", "/rope_scaling/mscale_all_dim", "0.8"}, Change{"deepseek_v3", "/rope_interleave", "false"},
        Change{"deepseek_v3", "/routed_scaling_factor", "2.0"}, Change{"deepseek_v3", "/topk_group", "3"},
        Change{"deepseek_v3", "/norm_topk_prob", "false"}, Change{"deepseek_v3_plain", "/norm_topk_prob", "true"},
        Change{"deepseek_v3_plain", "/rope_interleave", "true"}, Change{"llama4_text", "/attention_chunk_size", "6"},
        Change{"llama4_text", "/floor_scale", "3"}, Change{"llama4_text", "/attn_scale", "0.2"},
        Change{"llama4_text", "/use_qk_norm", "false"}, Change{"llama4_text", "/no_rope_layers/0", "0"},
        Change{"llama4_text", "/layer_types/0", "\"full_attention\""}, Change{"llama4_text", "/attn_temperature_tuning", "false"},
        Change{"llama4_text_top2", "/num_experts_per_tok", "1"}, Change{"llama4_text_top2", "/layer_types/1", "\"chunked_attention\""},
        Change{"gpt_oss", "/sliding_window", "5"}, Change{"gpt_oss", "/rope_parameters/truncate", "true"},
        Change{"gpt_oss", "/rope_parameters/beta_fast", "16"}, Change{"gpt_oss", "/rope_parameters/factor", "9.0"},
        Change{"gpt_oss", "/layer_types/1", "\"sliding_attention\""}, Change{"gpt_oss", "/rms_norm_eps", "0.0001"}),
    [](const auto& info) { return name_of(info.param); });

TEST(HfFixtures, AreOfEveryFamilyWithEveryQuantity) {
  std::set<std::string> missing;
  for (const auto& hf : hf_classes()) missing.insert(hf.model_type);
  std::set<std::string> quantities;
  for (const auto& folder : parity_folders(kHfFixtures)) {
    const auto result = compare_with_transformers(folder);
    missing.erase(hf_class(result.family).model_type);
    for (const auto& rule : kParityRules) {
      if (result.of(rule.quantity)) quantities.insert(rule.name);
    }
  }
  EXPECT_TRUE(missing.empty()) << "first without a model: " << *missing.begin();
  EXPECT_EQ(quantities.size(), kParityRules.size());
}

}  // namespace
}  // namespace switchyard
