// Where documents begin and end: in token ids, in batches, in files whose end-of-document token must be known, in generated text.
#include "training/documents.h"

#include "core/error.h"
#include "tests/tiny_models.h"
#include "tests/training/data_files.h"
#include "training/generation.h"
#include "training/token_data.h"

namespace switchyard {
namespace {

constexpr int64_t kEnd = 256;

TEST(Documents, AreNumberedWithinARowAndEndWithTheirToken) {
  const auto tokens_BS = longs({1, kEnd, 2, 3, kEnd, kEnd, kEnd, 4, 5, 6, 7, 8}).view({2, 6});
  EXPECT_EQ(to_longs(document_numbers(tokens_BS, kEnd)), (std::vector<int64_t>{0, 0, 1, 1, 1, 2, 0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(to_longs(document_positions(tokens_BS, kEnd)), (std::vector<int64_t>{0, 1, 0, 1, 2, 0, 0, 0, 1, 2, 3, 4}));
  EXPECT_EQ(to_longs(document_positions(longs({7}).view({1, 1}), kEnd)), (std::vector<int64_t>{0}));
}

class DocumentData : public DataFiles {
 protected:
  /// One window: a b END c d e END, the last one only as a target.
  RunConfig two_files(bool reset_attention_mask, bool reset_position_ids) const {
    RunConfig config;
    config.model.vocab_size = 257;
    config.data.sequence_length = 6;
    config.data.reset_attention_mask = reset_attention_mask;
    config.data.reset_position_ids = reset_position_ids;
    config.data.sources = {data_source("a", write("a.txt", "ab"))};
    config.data.sources[0].paths.push_back(write("b.txt", "cde"));
    config.data.sources[0].validation_paths = {write("v.txt", "xy"), write("w.txt", "z")};
    config.training.steps = 1;
    config.training.global_batch_size = 1;
    return config;
  }

  /// Ids 5 6 9 7 8 9, with a sidecar that says `sidecar` beside the number of tokens.
  RunConfig token_files(const std::string& sidecar) const {
    RunConfig config;
    config.model.vocab_size = 10;
    config.data = token_format();
    config.data.sequence_length = 5;
    config.data.reset_position_ids = true;
    config.data.sources = {data_source("a", write("a.bin", bytes_of<uint16_t>({5, 6, 9, 7, 8, 9})))};
    if (!sidecar.empty()) write("a.meta.json", R"({"num_tokens": 6)" + sidecar + "}");
    config.training.steps = 1;
    config.training.global_batch_size = 1;
    return config;
  }

  std::string refusal_of(const RunConfig& config) const {
    try {
      const TrainingData data(config);
      return "";
    } catch (const UserError& error) {
      return error.what();
    }
  }
};

TEST_F(DocumentData, AreMarkedInTrainingBatchesAsAsked) {
  const auto plain = TrainingData(two_files(false, false)).batch(1, 0, 1);
  EXPECT_FALSE(plain.document_BS.defined());
  EXPECT_FALSE(plain.position_BS.defined());
  const auto masked = TrainingData(two_files(true, false)).batch(1, 0, 1);
  EXPECT_EQ(to_longs(masked.document_BS), (std::vector<int64_t>{0, 0, 0, 1, 1, 1}));
  EXPECT_FALSE(masked.position_BS.defined());
  const auto started_again = TrainingData(two_files(false, true)).batch(1, 0, 1);
  EXPECT_FALSE(started_again.document_BS.defined());
  EXPECT_EQ(to_longs(started_again.position_BS), (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_TRUE(at::equal(plain.inputs_BS, masked.inputs_BS));
  EXPECT_TRUE(masked.mask_BS.all().item<bool>()) << "every token is still learned from";
}

TEST_F(DocumentData, AreMarkedInEvaluationBatchesToo) {
  // x y END z, the second END only as a target; what lies behind is masked.
  const auto batch = EvaluationData(two_files(true, true)).batch(0, 0, 2);
  EXPECT_EQ(to_longs(batch.document_BS[0].narrow(0, 0, 4)), (std::vector<int64_t>{0, 0, 0, 1}));
  EXPECT_EQ(to_longs(batch.position_BS[0].narrow(0, 0, 4)), (std::vector<int64_t>{0, 1, 2, 0}));
  EXPECT_EQ(batch.document_BS.sizes(), batch.inputs_BS.sizes());
}

TEST_F(DocumentData, OfTokenFilesEndWithTheTokenThatTheirSidecarNames) {
  const auto batch = TrainingData(token_files(R"(, "end_of_document": 9)")).batch(1, 0, 1);
  EXPECT_EQ(to_longs(batch.position_BS), (std::vector<int64_t>{0, 1, 2, 0, 1}));
}

TEST_F(DocumentData, WithoutAKnownEndAreRefusedWhereTheyMatter) {
  auto config = token_files("");
  EXPECT_EQ(refusal_of(config),
            path("a.bin") +
                ": no .meta.json names one end_of_document token, which data.reset_position_ids = true looks for; write "
                "the file with scripts/prepare_data.py, or add the key to its .meta.json");
  config.data.reset_position_ids = false;
  EXPECT_EQ(refusal_of(config), "");
}

TEST_F(DocumentData, OfFilesWithDifferentEndsAreRefused) {
  auto config = token_files(R"(, "end_of_document": 9)");
  config.data.sources[0].paths.push_back(write("b.bin", bytes_of<uint16_t>({5, 8})));
  write("b.meta.json", R"({"num_tokens": 2, "end_of_document": 8})");
  EXPECT_TRUE(refusal_of(config).starts_with(path("a.bin") + " and the other files of its source: no .meta.json names one"));
  write("b.meta.json", R"({"num_tokens": 2, "end_of_document": 9})");
  EXPECT_EQ(refusal_of(config), "");
}

TEST_F(DocumentData, CannotEndWithATokenOutsideTheVocabulary) {
  EXPECT_EQ(refusal_of(token_files(R"(, "end_of_document": 10)")),
            path("a.bin") + ": its .meta.json says end_of_document = 10, outside model.vocab_size = 10; raise model.vocab_size");
  EXPECT_NE(refusal_of(token_files(R"(, "end_of_document": "x")")).find("end_of_document is not a count"), std::string::npos);
}

TEST_F(DocumentData, WithAnotherEndAreOtherData) {
  const auto nine = TrainingData(token_files(R"(, "end_of_document": 9)")).fingerprint();
  EXPECT_NE(TrainingData(token_files(R"(, "end_of_document": 8)")).fingerprint(), nine);
}

TEST(Generation, SeesTheLastDocumentOfThePromptOnlyWhereTrainingDid) {
  auto config = tiny_config();
  config.max_sequence_length = 16;
  const ProcessMesh mesh(make_single_communicator(), /*expert_degree=*/1);
  auto model = build_model(config, {}, mesh, at::dtype(at::kDouble), /*seed=*/3, /*with_optimizer_state=*/false);
  SamplingOptions options{.max_tokens = 8, .temperature = 0.0, .stop_token = 28};
  const auto alone = generate(model, {7, 11}, options);
  EXPECT_NE(generate(model, {3, 5, 28, 7, 11}, options), alone);
  options.reset_attention_mask = options.reset_position_ids = true;
  EXPECT_EQ(generate(model, {3, 5, 28, 7, 11}, options), alone);
}

}  // namespace
}  // namespace switchyard
