#include "training/hf_checkpoint.h"

#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/temporary_folder.h"
#include "tests/tensors.h"
#include "tests/training/hf_fixtures.h"

namespace switchyard {
namespace {

nlohmann::json config_of(const std::string& fixture) {
  return nlohmann::json::parse(std::ifstream(kHfFixtures / fixture / "config.json"));
}

/// The message of the UserError that `action` ends with; empty where it does not.
std::string refusal_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

struct BadKey {
  const char* name;
  const char* fixture;
  const char* pointer;  ///< JSON pointer
  nlohmann::json value;
  const char* reason;  ///< part of the message, beside the key and its value
};

class HfConfigWithABadKey : public ::testing::TestWithParam<BadKey> {};

TEST_P(HfConfigWithABadKey, IsRefusedWithTheKeyItsValueAndTheReason) {
  const auto& bad = GetParam();
  auto config = config_of(bad.fixture);
  ASSERT_NO_THROW(read_hf_config(config));
  const nlohmann::json::json_pointer pointer(bad.pointer);
  config[pointer] = bad.value;
  const auto message = refusal_of([&] { read_hf_config(config); });
  EXPECT_NE(message.find(pointer.back() + " = " + bad.value.dump()), std::string::npos) << message;
  EXPECT_NE(message.find(bad.reason), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Keys, HfConfigWithABadKey,
    ::testing::Values(
        BadKey{"DropoutOfAttention", "llama", "/attention_dropout", 0.1, "no dropout on attention"},
        BadKey{"AnotherActivation", "llama", "/hidden_act", "gelu", "with silu only"},
        BadKey{"AScalingThatIsNotHere", "llama", "/rope_parameters/rope_type", "dynamic", "default, linear, llama3, yarn"},
        BadKey{"AKeyOfAnotherScaling", "llama", "/rope_parameters/beta_fast", 32, "a rope of the type llama3"},
        BadKey{"PartOfAHead", "olmo2", "/rope_parameters/partial_rotary_factor", 0.5, "nothing that this family has"},
        BadKey{"QuantizedWeights", "gpt_oss", "/quantization_config", nlohmann::json{{"quant_method", "mxfp4"}}, "quantized weights"},
        BadKey{"AKeyOfAnotherFamily", "mixtral", "/clip_qkv", 8.0, "is not a key that mixtral has"},
        BadKey{"AnUnknownKey", "qwen3", "/logit_softcap", 30.0, "is not a key that qwen3 has"},
        BadKey{"JitterOfTheExpertsInput", "mixtral", "/router_jitter_noise", 0.1, "what the experts see"},
        BadKey{"NormalizedByWhom", "deepseek_v2", "/norm_topk_prob", true, "which is meant cannot be known"},
        BadKey{"AnotherScore", "deepseek_v3", "/scoring_func", "softmax", "by a sigmoid"},
        BadKey{"AnotherLimit", "gpt_oss", "/swiglu_limit", 5.0, "clamps at 7"},
        BadKey{"AnotherClass", "llama", "/architectures", nlohmann::json::array({"LlamaForSequenceClassification"}), "LlamaForCausalLM"}),
    [](const auto& info) { return info.param.name; });

TEST(HfConfig, RefusesAnUnknownFamilyAndNamesTheKnownOnes) {
  const auto message = refusal_of([] { read_hf_config({{"model_type", "mamba"}}); });
  EXPECT_NE(message.find("\"mamba\""), std::string::npos) << message;
  EXPECT_NE(message.find("deepseek_v3"), std::string::npos) << message;
}

TEST(HfConfig, SaysWhichSizeIsMissing) {
  auto config = config_of("llama");
  config.erase("hidden_size");
  EXPECT_NE(refusal_of([&] { read_hf_config(config); }).find("hidden_size is missing"), std::string::npos);
}

TEST(HfConfig, TakesTheClassesDefaultsForAbsentKeys) {
  auto mistral = config_of("mistral");
  mistral.erase("sliding_window");
  EXPECT_EQ(read_hf_config(mistral).config.attention.window, 4096);
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(read_hf_config(mistral).config.attention.window, 0);
  auto gpt_oss = config_of("gpt_oss");
  gpt_oss.erase("rope_parameters");
  const auto model = read_hf_config(gpt_oss).config;
  EXPECT_EQ(model.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(model.rope.factor, 32.0);
  EXPECT_FALSE(model.rope.truncate);
  EXPECT_EQ(model.rope_theta, 150000.0);
}

/// A fixture's folder with other tensors.
class Altered {
 public:
  using Tensors = std::map<std::string, at::Tensor>;

  Altered(const std::string& fixture, const std::function<void(Tensors&)>& alter) {
    const SafetensorsFile file(kHfFixtures / fixture / "model.safetensors");
    Tensors tensors;
    for (const auto& [name, entry] : file.entries()) tensors[name] = file.read(name);
    alter(tensors);
    write_safetensors(folder_.path() / "model.safetensors", {tensors.begin(), tensors.end()});
    std::filesystem::copy_file(kHfFixtures / fixture / "config.json", folder_.path() / "config.json");
  }

  std::string refusal() const {
    return refusal_of([&] { HfCheckpoint checkpoint(folder_.path()); });
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

TEST(HfCheckpoint, NamesTensorsThatAreMissing) {
  const Altered altered("olmoe", [](auto& tensors) { tensors.erase("model.layers.1.mlp.experts.2.up_proj.weight"); });
  EXPECT_NE(altered.refusal().find("lacks tensors of the model that config.json describes: model.layers.1.mlp.experts.2.up_proj.weight"),
            std::string::npos)
      << altered.refusal();
}

TEST(HfCheckpoint, NamesTensorsThatTheModelHasNoPlaceFor) {
  const Altered altered("olmoe", [](auto& tensors) { tensors["model.layers.0.self_attn.q_proj.bias"] = at::zeros({3}); });
  EXPECT_NE(altered.refusal().find("no place for: model.layers.0.self_attn.q_proj.bias"), std::string::npos) << altered.refusal();
}

TEST(HfCheckpoint, RefusesAnotherShapeAndAnotherKindOfNumbers) {
  const Altered wide("llama_biased", [](auto& tensors) { tensors["model.norm.weight"] = at::zeros({2}); });
  EXPECT_NE(wide.refusal().find("model.norm.weight has the shape [2]"), std::string::npos) << wide.refusal();
  const Altered whole("llama_biased", [](auto& tensors) { tensors["model.norm.weight"] = tensors["model.norm.weight"].to(at::kLong); });
  EXPECT_NE(whole.refusal().find("model.norm.weight has the dtype Long"), std::string::npos) << whole.refusal();
}

TEST(HfCheckpoint, TakesATiedHeadOnceOrTwiceTheSame) {
  const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
  const Altered twice("llama_biased", [&](auto& tensors) { tensors[head] = tensors[embedding]; });
  EXPECT_EQ(twice.refusal(), "");
  const Altered differing("llama_biased", [&](auto& tensors) { tensors[head] = tensors[embedding] + 1; });
  EXPECT_NE(differing.refusal().find("lm_head.weight differs from model.embed_tokens.weight"), std::string::npos);
  const Altered head_alone("llama_biased", [&](auto& tensors) {
    tensors[head] = tensors[embedding];
    tensors.erase(embedding);
  });
  EXPECT_EQ(head_alone.refusal(), "");
  const int64_t rows = HfCheckpoint(twice.path()).config().vocab_size;
  expect_equal(HfCheckpoint(head_alone.path()).read("embedding", 0, rows), HfCheckpoint(twice.path()).read("embedding", 0, rows));
}

TEST(HfCheckpoint, LeavesBlocksBehindTheLastUnread) {
  const Altered altered("deepseek_v3", [](auto& tensors) { tensors["model.layers.3.eh_proj.weight"] = at::zeros({3}); });
  EXPECT_EQ(altered.refusal(), "");
}

TEST(HfCheckpoint, ReadsTheRowsThatARankHolds) {
  const HfCheckpoint checkpoint(kHfFixtures / "gpt_oss");
  const auto& moe = *checkpoint.config().moe;
  const std::string name = "layers.1.moe.experts.gate_up";
  const auto all = checkpoint.read(name, 0, moe.num_experts).view({moe.num_experts, -1});
  expect_equal(checkpoint.read(name, 1, 2), all.narrow(0, 1, 2).flatten());
  // Their columns g0, u0, g1, u1 ... of expert 1 are our rows g0, g1 ..., u0, u1 ...
  const auto theirs = SafetensorsFile(kHfFixtures / "gpt_oss" / "model.safetensors").read("model.layers.1.mlp.experts.gate_up_proj");
  const auto ours = all.view({moe.num_experts, 2 * moe.ffn_hidden_size, -1});
  expect_equal(ours[1][2].contiguous(), theirs[1].select(1, 4).contiguous());
  expect_equal(ours[1][moe.ffn_hidden_size + 2].contiguous(), theirs[1].select(1, 5).contiguous());
}

}  // namespace
}  // namespace switchyard
