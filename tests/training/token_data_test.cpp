// What training and evaluation see: the same for every way of dividing a step's samples, every window once an epoch, held-out text apart.
#include <map>
#include <set>

#include "core/error.h"
#include "tests/training/data_files.h"
#include "training/source_split.h"
#include "training/token_data.h"

namespace switchyard {
namespace {

/// Bytes first, first + 1, ..., so that a token says where it stood.
std::string counting_text(int first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text.push_back(static_cast<char>(first + i));
  return text;
}

std::vector<int64_t> values(const at::Tensor& tensor) {
  const auto flat = tensor.to(at::kLong).contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

class TokenData : public DataFiles {
 protected:
  /// Sources "a" (25 windows of 4 in 101 tokens) and "b" (10 windows, 41 tokens), weights 3 : 1, 8 samples a step.
  RunConfig two_sources() const {
    RunConfig config;
    config.model.vocab_size = 257;
    config.data.sequence_length = 4;
    config.data.sources = {data_source("a", write("a.txt", counting_text(0, 100)), 3),
                           data_source("b", write("b.txt", counting_text(150, 40)), 1)};
    config.training.steps = 10;
    config.training.seed = 7;
    config.training.global_batch_size = 8;
    return config;
  }

  /// One source whose 101 tokens are split by `fraction`.
  RunConfig split_source_config(double fraction) const {
    RunConfig config = two_sources();
    config.data.sources.pop_back();
    config.data.sources[0].validation_fraction = fraction;
    return config;
  }

  RunConfig held_out_file(const std::string& text) const {
    RunConfig config = two_sources();
    config.data.sources[1].validation_paths = {write("b.validation.txt", text)};
    return config;
  }
};

TEST_F(TokenData, GivesTheSameSamplesForEveryDivisionOfAStep) {
  const TrainingData data(two_sources());
  for (const int64_t step : {1, 2, 9}) {
    const Batch whole = data.batch(step, 0, 8);
    for (const int64_t part : {1, 2, 4}) {
      for (int64_t first = 0; first < 8; first += part) {
        const Batch some = data.batch(step, first, part);
        EXPECT_TRUE(some.inputs_BS.equal(whole.inputs_BS.narrow(0, first, part)));
        EXPECT_TRUE(some.targets_BS.equal(whole.targets_BS.narrow(0, first, part)));
        EXPECT_TRUE(some.domain_B.equal(whole.domain_B.narrow(0, first, part)));
        EXPECT_TRUE(some.global_sample_B.equal(whole.global_sample_B.narrow(0, first, part)));
      }
    }
  }
  EXPECT_EQ(values(data.batch(1, 2, 3).global_sample_B), (std::vector<int64_t>{2, 3, 4}));
}

TEST_F(TokenData, GoesOnFromStepToStepAsOneSequenceOfSamples) {
  RunConfig config = two_sources();
  const TrainingData eight(config);
  config.training.global_batch_size = 16;
  const TrainingData sixteen(config);
  const Batch joined = sixteen.batch(2, 0, 16);
  EXPECT_TRUE(joined.inputs_BS.narrow(0, 0, 8).equal(eight.batch(3, 0, 8).inputs_BS));
  EXPECT_TRUE(joined.inputs_BS.narrow(0, 8, 8).equal(eight.batch(4, 0, 8).inputs_BS));
}

TEST_F(TokenData, CutsWindowsWhoseTargetsAreTheInputsShiftedByOne) {
  const Batch batch = TrainingData(two_sources()).batch(1, 0, 8);
  EXPECT_EQ(batch.inputs_BS.sizes(), (at::IntArrayRef{8, 4}));
  for (int64_t row = 0; row < 8; ++row) {
    const auto inputs = values(batch.inputs_BS[row]);
    const bool is_a = batch.domain_B[row].item<int64_t>() == 0;
    const int64_t first = is_a ? 0 : 150;
    const int64_t end = is_a ? 100 : 190;
    EXPECT_EQ((inputs[0] - first) % 4, 0) << "windows start S apart";
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(inputs[i], inputs[0] + i);
    auto targets = inputs;
    for (auto& target : targets) target = target + 1 == end ? 256 : target + 1;
    EXPECT_EQ(values(batch.targets_BS[row]), targets);
  }
  EXPECT_TRUE(batch.mask_BS.all().item<bool>());
}

TEST_F(TokenData, VisitsEveryWindowOnceAnEpoch) {
  // 4 samples in 4 slots: 3 of a, 1 of b. Step s of 20 samples takes 15 of a and 5 of b: 5 steps = 3 epochs of a, 2 steps = 1 epoch of b.
  RunConfig config = two_sources();
  config.training.global_batch_size = 20;
  const TrainingData data(config);
  std::map<int64_t, std::vector<int64_t>> starts;
  for (int64_t step = 1; step <= 10; ++step) {
    const Batch batch = data.batch(step, 0, 20);
    for (int64_t row = 0; row < 20; ++row) starts[batch.domain_B[row].item<int64_t>()].push_back(batch.inputs_BS[row][0].item<int64_t>());
  }
  ASSERT_EQ(starts[0].size(), 150U);
  ASSERT_EQ(starts[1].size(), 50U);
  for (const auto& [domain, num_windows] : std::map<int64_t, int64_t>{{0, 25}, {1, 10}}) {
    for (size_t begin = 0; begin < starts[domain].size(); begin += num_windows) {
      const std::set<int64_t> epoch(starts[domain].begin() + begin, starts[domain].begin() + begin + num_windows);
      EXPECT_EQ(static_cast<int64_t>(epoch.size()), num_windows) << "domain " << domain << ", epoch from sample " << begin;
    }
  }
}

TEST_F(TokenData, TakesSourcesInTheExactProportionOfTheirWeights) {
  const TrainingData data(two_sources());
  for (int64_t step = 1; step <= 5; ++step) EXPECT_EQ(data.batch(step, 0, 8).domain_B.sum().item<int64_t>(), 2) << "step " << step;
}

TEST_F(TokenData, ChangesItsOrderWithTheSeed) {
  RunConfig config = two_sources();
  const auto before = TrainingData(config).batch(1, 0, 8).inputs_BS;
  config.training.seed = 8;
  EXPECT_FALSE(TrainingData(config).batch(1, 0, 8).inputs_BS.equal(before));
}

TEST_F(TokenData, CountsTheTokensOfAnEpoch) {
  EXPECT_EQ(TrainingData(two_sources()).tokens_per_epoch(), (25 + 10) * 4);
}

TEST_F(TokenData, DescribesEachSourceInALine) {
  const std::string text = TrainingData(two_sources()).describe();
  EXPECT_NE(text.find("a: 101 tokens, 25 windows of 4, weight 0.75 of the samples, 2.4 epochs in 10 steps\n"), std::string::npos) << text;
  EXPECT_NE(text.find("b: 41 tokens, 10 windows of 4, weight 0.25 of the samples, 2 epochs in 10 steps\n"), std::string::npos) << text;
}

TEST_F(TokenData, TellsByItsFingerprintThatAFileOrTheVocabularyChanged) {
  RunConfig config = two_sources();
  const uint64_t before = TrainingData(config).fingerprint();
  EXPECT_EQ(TrainingData(config).fingerprint(), before);
  config.model.vocab_size = 300;
  EXPECT_NE(TrainingData(config).fingerprint(), before);
  config.model.vocab_size = 257;
  write("b.txt", counting_text(151, 40));
  EXPECT_NE(TrainingData(config).fingerprint(), before);
}

TEST_F(TokenData, RefusesSamplesOutsideTheStep) {
  const TrainingData data(two_sources());
  EXPECT_ANY_THROW(data.batch(0, 0, 8));
  EXPECT_ANY_THROW(data.batch(1, 4, 5));
  EXPECT_ANY_THROW(data.batch(1, -1, 1));
}

TEST_F(TokenData, NamesASourceThatIsTooShortForOneWindow) {
  RunConfig config = two_sources();
  config.data.sources[1].paths = {write("short.txt", "abc")};  // 4 tokens, a window has 5
  const auto message = message_of([&] { TrainingData data(config); });
  EXPECT_NE(message.find("data.sources (b): 4 tokens leave no training window of 5 tokens"), std::string::npos) << message;
  config.data.sources[1].paths = {write("enough.txt", "abcd")};
  EXPECT_EQ(message_of([&] { TrainingData data(config); }), "no error");
}

TEST_F(TokenData, HoldsOutTheTailWithoutATokenInCommon) {
  // 101 tokens = 25 windows; 20 % = 5 windows are held out, 20 are trained on: tokens 0 to 80. Held out: 81 to 99 and the end of document.
  RunConfig config = split_source_config(0.2);
  config.training.global_batch_size = 20;
  const Batch epoch = TrainingData(config).batch(1, 0, 20);
  std::set<int64_t> trained;
  for (const auto& part : {epoch.inputs_BS, epoch.targets_BS}) {
    for (const int64_t token : values(part)) trained.insert(token);
  }
  EXPECT_EQ(*trained.begin(), 0);
  EXPECT_EQ(*trained.rbegin(), 80);
  EXPECT_EQ(trained.size(), 81U);

  const EvaluationData held_out(config);
  ASSERT_EQ(held_out.num_domains(), 1);
  ASSERT_EQ(held_out.num_sequences(0), 5);  // 20 tokens, 19 targets
  const Batch batch = held_out.batch(0, 0, 5);
  EXPECT_EQ(values(batch.inputs_BS[0]), (std::vector<int64_t>{81, 82, 83, 84}));
  EXPECT_EQ(values(batch.targets_BS[4]), (std::vector<int64_t>{98, 99, 256, 0}));
  EXPECT_EQ(values(batch.mask_BS[4]), (std::vector<int64_t>{1, 1, 1, 0}));
}

DataSource holding_out(double validation_fraction) {
  DataSource source = data_source("a", "a.txt");
  source.validation_fraction = validation_fraction;
  return source;
}

TEST(SourceSplit, HoldsOutAtLeastOneWindowAndLeavesAtLeastOne) {
  const auto split = split_source(holding_out(0.001), /*num_tokens=*/101, /*sequence_length=*/4);
  EXPECT_EQ(split.training.end, 24 * 4 + 1);
  EXPECT_EQ(split.held_out.begin, split.training.end);
  EXPECT_EQ(split.held_out.end, 101);
  EXPECT_THROW(split_source(holding_out(0.5), /*num_tokens=*/5, /*sequence_length=*/4), UserError);
}

TEST(SourceSplit, UsesEveryWholeWindowWhereNothingIsHeldOut) {
  const auto split = split_source(holding_out(0), /*num_tokens=*/104, /*sequence_length=*/4);
  EXPECT_EQ(split.training.end, 101);
  EXPECT_EQ(split.held_out.size(), 0);
}

TEST(SourceSplit, RefusesTwoWaysOfHoldingOut) {
  DataSource source = holding_out(0.1);
  source.validation_paths = {"b.txt"};
  EXPECT_THROW(split_source(source, 101, 4), UserError);
}

TEST_F(TokenData, EvaluatesTheHeldOutFileFromItsBeginning) {
  // 10 tokens with the end of the document, 9 targets: windows of 4, 4 and 1 targets.
  const EvaluationData data(held_out_file("abcdefghi"));
  ASSERT_EQ(data.num_domains(), 1);
  EXPECT_EQ(data.name(0), "b");
  ASSERT_EQ(data.num_sequences(0), 3);
  const Batch batch = data.batch(0, 0, 3);
  EXPECT_EQ(values(batch.inputs_BS), (std::vector<int64_t>{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 0, 0, 0}));
  EXPECT_EQ(values(batch.targets_BS), (std::vector<int64_t>{'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 256, 0, 0, 0}));
  EXPECT_EQ(values(batch.mask_BS), (std::vector<int64_t>{1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(values(batch.domain_B), (std::vector<int64_t>{1, 1, 1})) << "the source's number in the configuration";
  EXPECT_EQ(data.num_text_bytes(0), 8.0);  // b to i; the first byte is no target, the end of the document no text
}

TEST_F(TokenData, MasksEvaluationSequencesPastTheEnd) {
  const EvaluationData data(held_out_file("abcdefghi"));
  const Batch batch = data.batch(0, 2, 3);
  EXPECT_EQ(values(batch.inputs_BS[0]), (std::vector<int64_t>{'i', 0, 0, 0}));
  EXPECT_FALSE(batch.mask_BS.narrow(0, 1, 2).any().item<bool>());
  EXPECT_EQ(values(batch.global_sample_B), (std::vector<int64_t>{2, 3, 4}));
  EXPECT_FALSE(data.batch(0, 100, 2).mask_BS.any().item<bool>());
}

TEST_F(TokenData, CountsEveryHeldOutTargetOnce) {
  const std::string text = counting_text(10, 61);
  const EvaluationData data(held_out_file(text));
  const Batch batch = data.batch(0, 0, data.num_sequences(0));
  std::vector<int64_t> expected;
  for (size_t i = 1; i < text.size(); ++i) expected.push_back(static_cast<unsigned char>(text[i]));
  expected.push_back(256);
  EXPECT_EQ(values(batch.targets_BS.masked_select(batch.mask_BS)), expected);
}

TEST_F(TokenData, LimitsEvaluationToTheFirstSequences) {
  RunConfig config = held_out_file("abcdefghi");
  config.evaluation.max_sequences = 2;
  EXPECT_EQ(EvaluationData(config).num_sequences(0), 2);
  EXPECT_EQ(EvaluationData(config).num_text_bytes(0), 8.0);
  config.evaluation.max_sequences = 1;
  EXPECT_EQ(EvaluationData(config).num_text_bytes(0), 4.0);
  EXPECT_FALSE(EvaluationData(config).batch(0, 1, 1).mask_BS.any().item<bool>());
  config.evaluation.max_sequences = 100;
  EXPECT_EQ(EvaluationData(config).num_sequences(0), 3);
}

TEST_F(TokenData, HasNoDomainsWithoutHeldOutText) {
  EXPECT_EQ(EvaluationData(two_sources()).num_domains(), 0);
}

TEST_F(TokenData, RefusesHeldOutTokensThatPredictNothing) {
  RunConfig config = two_sources();
  config.data.format = DataFormat::kTokens;
  config.data.sources = {data_source("c", write("c.bin", bytes_of<uint16_t>({1, 2, 3, 4, 5})))};
  config.data.sources[0].validation_paths = {write("c.validation.bin", bytes_of<uint16_t>({1}))};
  const auto message = message_of([&] { EvaluationData data(config); });
  EXPECT_NE(message.find("data.sources (c): 1 held-out tokens are too few"), std::string::npos) << message;
}

}  // namespace
}  // namespace switchyard
