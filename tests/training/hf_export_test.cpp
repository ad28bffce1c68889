#include "training/hf_export.h"

#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/temporary_folder.h"
#include "tests/tiny_models.h"
#include "training/hf_fit.h"
#include "training/hf_layout.h"
#include "training/safetensors.h"

namespace switchyard {
namespace {

ModelConfig mixtral_like() {
  return tiny_config();
}

ModelConfig qwen2_moe_like() {
  auto config = tiny_config();
  config.qkv_bias = true;
  config.moe->shared_expert_ffn_hidden_size = 8;
  config.moe->shared_expert_gate = true;
  config.moe->renormalize = false;
  config.moe->layers = {.kind = LayerSet::Kind::kFirstDense, .count = 1, .list = {}};
  return config;
}

ModelConfig llama_like() {
  auto config = tiny_config(/*moe=*/false);
  config.tie_embeddings = true;
  return config;
}

struct Family {
  const char* name;
  ModelConfig config;
  const char* model_type;
};

/// A saved model of random weights and its export.
struct Exported {
  explicit Exported(const ModelConfig& config, int64_t max_shard_bytes = int64_t{1} << 30)
      : mesh(make_single_communicator(), 1), model(build_model(config, {}, mesh, at::dtype(at::kFloat), /*seed=*/5, false)) {
    for (auto& group : model.store->groups()) {
      for (const auto& slot : group.slots)
        ParameterGroup::view(group.master, slot).copy_(normal(slot.shape, 9 + slot.offset, at::kFloat) * 0.2);
    }
    save_checkpoint(folder.path() / "checkpoints", 3, checkpoint_pieces(model, mesh), {{"precision", "fp32"}}, 2, *mesh.world());
    run.config.model = config;
    run.checkpoint = folder.path() / "checkpoints" / "step-3";
    run.step = 3;
    run.precision = "fp32";
    export_hugging_face(run, target(), at::kFloat, max_shard_bytes);
  }
  std::filesystem::path target() const { return folder.path() / "export"; }

  TemporaryFolder folder;
  ProcessMesh mesh;
  ModelInstance model;
  SavedRun run;
};

nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(std::ifstream(path));
}

class EachFamily : public ::testing::TestWithParam<Family> {};

TEST_P(EachFamily, ReadBackGivesTheSameLogitsToTheBit) {
  const auto& config = GetParam().config;
  Exported exported(config);
  EXPECT_EQ(read_json(exported.target() / "config.json").at("model_type"), GetParam().model_type);
  const SafetensorsFile file(exported.target() / "model.safetensors");
  auto copy = build_model(config, {}, exported.mesh, at::dtype(at::kFloat), /*seed=*/6, false);
  const auto table = hf_tensors(config, hf_family(config));
  EXPECT_EQ(file.entries().size(), table.size());
  for (const auto& tensor : table) {
    for (auto& group : copy.store->groups()) {
      for (const auto& slot : group.slots) {
        if (slot.name != tensor.ours) continue;
        const auto values = file.read(tensor.name);
        group.master.narrow(0, slot.offset + tensor.begin, values.numel()).copy_(values.view({-1}));
      }
    }
  }
  const auto context = tiny_context(2, 8, config.vocab_size, /*training=*/false);
  const auto logits = [&](ModelInstance& model) { return model.transformer->logits(model.transformer->forward(context).hidden_BSD); };
  EXPECT_TRUE(at::equal(logits(copy), logits(exported.model)));
}

INSTANTIATE_TEST_SUITE_P(Families, EachFamily,
                         ::testing::Values(Family{"Mixtral", mixtral_like(), "mixtral"}, Family{"Qwen2Moe", qwen2_moe_like(), "qwen2_moe"},
                                           Family{"Llama", llama_like(), "llama"}),
                         [](const auto& info) { return info.param.name; });

TEST(Export, PutsGateUpAndDownWhereMixtralHasThem) {
  Exported exported(mixtral_like());
  const SafetensorsFile file(exported.target() / "model.safetensors");
  const auto parameters = exported.model.transformer->named_parameters();
  const auto gate_up = parameters["layers.1.moe.experts.gate_up"][2];  // [2 * 12, 16] of expert 2
  EXPECT_TRUE(at::equal(file.read("model.layers.1.block_sparse_moe.experts.2.w1.weight"), gate_up.narrow(0, 0, 12)));
  EXPECT_TRUE(at::equal(file.read("model.layers.1.block_sparse_moe.experts.2.w3.weight"), gate_up.narrow(0, 12, 12)));
  EXPECT_TRUE(at::equal(file.read("model.layers.1.block_sparse_moe.experts.2.w2.weight"), parameters["layers.1.moe.experts.down"][2]));
  const auto qkv = parameters["layers.0.attention.qkv"];  // 4 query heads and 2 + 2 key and value heads of 4
  EXPECT_TRUE(at::equal(file.read("model.layers.0.self_attn.q_proj.weight"), qkv.narrow(0, 0, 16)));
  EXPECT_TRUE(at::equal(file.read("model.layers.0.self_attn.k_proj.weight"), qkv.narrow(0, 16, 8)));
  EXPECT_TRUE(at::equal(file.read("model.layers.0.self_attn.v_proj.weight"), qkv.narrow(0, 24, 8)));
}

TEST(Export, IndexNamesEveryTensorAndItsShard) {
  Exported exported(mixtral_like(), /*max_shard_bytes=*/8192);
  const auto index = read_json(exported.target() / "model.safetensors.index.json");
  const auto table = hf_tensors(mixtral_like(), HfFamily::kMixtral);
  EXPECT_EQ(index.at("weight_map").size(), table.size());
  EXPECT_EQ(index.at("metadata").at("total_parameters").get<int64_t>(), count_parameters(mixtral_like()).total);
  for (const auto& [name, shard] : index.at("weight_map").items()) {
    EXPECT_TRUE(SafetensorsFile(exported.target() / shard.get<std::string>()).entries().contains(name)) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(exported.target() / "model.safetensors"));
}

TEST(Export, ByteTokenizerMapsEveryByteToItsOwnId) {
  Exported exported(mixtral_like());
  const auto vocabulary = read_json(exported.target() / "tokenizer.json").at("model").at("vocab");
  EXPECT_EQ(vocabulary.size(), 256u);
  EXPECT_EQ(vocabulary.at("A").get<int>(), 'A');
  EXPECT_EQ(vocabulary.at("\u0120").get<int>(), ' ');   // GPT-2 shows a space as U+0120
  EXPECT_EQ(vocabulary.at("\u010a").get<int>(), '\n');  // and a line feed as U+010A
}

TEST(Export, RefusesAModelThatFitsNoLayoutAndSaysWhy) {
  auto config = tiny_config();
  config.moe->renormalize = false;
  try {
    hf_family(config);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("model.moe.renormalize = false"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("no shared expert"), std::string::npos);
  }
}

TEST(Export, DoesNotOverwriteAForeignFolder) {
  Exported exported(mixtral_like());
  const auto foreign = exported.folder.path() / "foreign";
  std::filesystem::create_directories(foreign);
  std::ofstream(foreign / "thesis.txt") << "mine";
  EXPECT_THROW(export_hugging_face(exported.run, foreign, at::kFloat), UserError);
  EXPECT_TRUE(std::filesystem::exists(foreign / "thesis.txt"));
  EXPECT_NO_THROW(export_hugging_face(exported.run, exported.target(), at::kBFloat16));  // an earlier export of ours is replaced
}

}  // namespace
}  // namespace switchyard
