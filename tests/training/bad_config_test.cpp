// Configurations that must be refused: the place, the key and what to do.
#include <ostream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/training/config_file.h"
#include "training/run_config.h"

namespace switchyard {
namespace {

/// The message with the file's path replaced by FILE; empty when the configuration is accepted.
std::string refusal(const std::string& text, const std::vector<std::string>& overrides, int64_t world_size = 1) {
  const ConfigFile file(text);
  try {
    load_run_config(file.path(), overrides, world_size);
    return "";
  } catch (const UserError& error) {
    std::string message = error.what();
    for (size_t at = 0; (at = message.find(file.path(), at)) != std::string::npos;) message.replace(at, file.path().size(), "FILE");
    return message;
  }
}

struct BadOverride {
  std::string name;
  std::vector<std::string> overrides;
  std::string message;  ///< what the message begins with, after "command line: " or "FILE..."
  int64_t world_size = 1;
};

void PrintTo(const BadOverride& bad, std::ostream* out) {
  *out << bad.name;
}

class BadOverrides : public testing::TestWithParam<BadOverride> {};

TEST_P(BadOverrides, AreRefusedWithTheReasonAndNothingElse) {
  const std::string message = refusal(kMoeConfig, GetParam().overrides, GetParam().world_size);
  EXPECT_TRUE(message.starts_with(GetParam().message)) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

const auto name_of = [](const auto& info) { return info.param.name; };

INSTANTIATE_TEST_SUITE_P(
    Values, BadOverrides,
    testing::Values(
        BadOverride{"Word", {"training.steps=many"}, "command line: training.steps = many is not a whole number; write decimal digits"},
        BadOverride{"Fraction", {"training.steps=1.5"}, "command line: training.steps = 1.5 is not a whole number"},
        BadOverride{"InexactExponent", {"training.steps=15e-1"}, "command line: training.steps = 15e-1 is not a whole number"},
        BadOverride{"Octal", {"training.steps=010"}, "command line: training.steps = 010 is not a whole number"},
        BadOverride{"Hexadecimal", {"training.steps=0x10"}, "command line: training.steps = 0x10 is not a whole number"},
        BadOverride{"Underscore", {"training.steps=1_000"}, "command line: training.steps = 1_000 is not a whole number"},
        BadOverride{"NumberInQuotes", {"training.steps=\"10\""}, "command line: training.steps = 10 is text in quotes"},
        BadOverride{
            "MoreThan64Bits", {"training.seed=9223372036854775808"}, "command line: training.seed = 9223372036854775808 is not a whole"},
        BadOverride{"HugeExponent", {"training.seed=1e9999"}, "command line: training.seed = 1e9999 is not a whole number"},
        BadOverride{"ZeroSteps", {"training.steps=0"}, "command line: training.steps = 0 is out of range; use 1 or more"},
        BadOverride{"ListForNumber", {"training.steps=[1, 2]"}, "command line: training.steps = [1, 2] is not a whole number"},
        BadOverride{"NotANumber", {"optimizer.learning_rate=.nan"}, "command line: optimizer.learning_rate = .nan is not a finite number"},
        BadOverride{"Infinite", {"optimizer.learning_rate=inf"}, "command line: optimizer.learning_rate = inf is not a finite number"},
        BadOverride{"Overflow", {"optimizer.learning_rate=1e400"}, "command line: optimizer.learning_rate = 1e400 is not a finite number"},
        BadOverride{"NegativeRate",
                    {"optimizer.learning_rate=-1e-3"},
                    "command line: optimizer.learning_rate = -1e-3 is out of range; use more than 0"},
        BadOverride{"Beta", {"optimizer.beta1=1"}, "command line: optimizer.beta1 = 1 is out of range; use 0 or more, less than 1"},
        BadOverride{
            "MinRatio", {"schedule.min_ratio=1.5"}, "command line: schedule.min_ratio = 1.5 is out of range; use 0 or more, at most 1"},
        BadOverride{"Yes", {"model.tie_embeddings=yes"}, "command line: model.tie_embeddings = yes is not true or false"},
        BadOverride{
            "UnknownWord", {"schedule.kind=cosinus"}, "command line: schedule.kind = cosinus is not one of constant, cosine, linear, wsd"},
        BadOverride{"UnknownScope",
                    {"model.moe.aux_loss_scope=device"},
                    "command line: model.moe.aux_loss_scope = device is not one of sequence, micro_batch, global_batch, running, lagged"},
        BadOverride{"DropOrder",
                    {"model.moe.drop_order=[position]"},
                    "command line: model.moe.drop_order = [position] is not one of [choice, position], "},
        BadOverride{"KeepOne", {"checkpoint.keep=1"}, "command line: checkpoint.keep = 1 is out of range; use 2 or more"},
        BadOverride{"SectionAsValue", {"optimizer=3"}, "command line: optimizer = 3 is not a section"},
        BadOverride{"Version", {"config_version=2"}, "command line: config_version = 2 is out of range; use 1"},
        BadOverride{"LayersWord", {"model.moe.layers=none"}, "command line: model.moe.layers = none is not one of all, {every: n}"},
        BadOverride{"LayersItem",
                    {"model.moe.layers=[0, x]"},
                    "command line: model.moe.layers = [0, x] has the item x, which is not a whole number"},
        BadOverride{"EveryZero", {"model.moe.every=0"}, "command line: model.moe.every = 0 is out of range; use 1 or more"},
        BadOverride{"NameWithSlash", {"name=../x"}, "command line: name = \"../x\" is not the name of a folder"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Keys, BadOverrides,
    testing::Values(
        BadOverride{"Misspelled",
                    {"model.moe.num_expert=6"},
                    "command line: model.moe.num_expert = 6 is not a known key; did you mean model.moe.num_experts?"},
        BadOverride{"WrongSection", {"model.top_k=2"}, "command line: model.top_k = 2 is not a known key; did you mean model.moe.top_k?"},
        BadOverride{
            "FarFromAll",
            {"parallel.lr=2"},
            "command line: parallel.lr = 2 is not a known key; known here: parallel.expert, parallel.rank_order, parallel.zero_stage, "
            "parallel.gradient_bucket_size, parallel.overlap_gradient_sync, parallel.dispatch_chunks, parallel.overlap_shared_expert, "
            "parallel.all_to_all, parallel.timeout_seconds"},
        BadOverride{"UnknownSection", {"optimiser.eps=1"}, "command line: optimiser is not a known section; did you mean optimizer?"},
        BadOverride{"UnknownKeySetToNull",
                    {"training.step=null"},
                    "command line: training.step = null is not a known key; did you mean training.steps?"},
        BadOverride{"NoValue", {"training.steps="}, "command line: 'training.steps=' is not key=value"},
        BadOverride{"NoEquals", {"fast"}, "command line: 'fast' is not key=value"},
        BadOverride{"BadYaml", {"model.moe.layers=[1"}, "command line: model.moe.layers = [1 is not valid YAML"},
        BadOverride{"Alias", {"training.seed=*x"}, "command line: training.seed = *x is not valid YAML"},
        BadOverride{"InsideAList",
                    {"data.sources.weight=2"},
                    "command line: data.sources.weight = 2 cannot be set, because data.sources is not a section"},
        BadOverride{"RequiredTakenAway", {"training.steps=null"}, "FILE:15: training.steps is missing; state it (integer)"},
        BadOverride{"NoSources", {"data.sources=[]"}, "command line: data.sources = [] is not a list of sources"},
        BadOverride{"SourceWithoutPath", {"data.sources=[{name: a}]"}, "command line: data.sources[0].path is missing"},
        BadOverride{"SourceKey",
                    {"data.sources=[{name: a, path: b, weigth: 1}]"},
                    "command line: data.sources[0].weigth = 1 is not a known key; did you mean data.sources[0].weight?"},
        BadOverride{"TwoFormsOfLayers",
                    {"model.moe.every=2", "model.moe.first_dense=1"},
                    "command line: model.moe.first_dense says what model.moe.layers"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Rules, BadOverrides,
    testing::Values(
        BadOverride{
            "ExpertsOverRanks",
            {"model.moe.num_experts=6", "parallel.expert=4"},
            "command line: model.moe.num_experts = 6 is not divisible by parallel.expert = 4; use 4 or 8 experts, or parallel.expert 1, 2",
            4},
        BadOverride{"DegreeOverRanks",
                    {"parallel.expert=4"},
                    "command line: parallel.expert = 4 does not divide the number of ranks, 2; start 4 ranks, or use parallel.expert 1, 2",
                    2},
        BadOverride{"DegreeOfADenseModel",
                    {"parallel.expert=2", "model.moe=null"},
                    "command line: parallel.expert = 2 has no experts to share out",
                    2},
        BadOverride{"Batch",
                    {"training.global_batch_size=20"},
                    "command line: training.global_batch_size = 20 is not divisible by training.micro_batch_size x ranks = 4 x 2 = 8; use "
                    "16 or 24, or "
                    "training.micro_batch_size 1, 2, 5, 10",
                    2},
        BadOverride{
            "BatchOfTooManyRanks",
            {"training.seed=1"},
            "FILE:17: training.global_batch_size = 16 is not divisible by training.micro_batch_size x ranks = 4 x 3 = 12; use 12 or 24",
            3},
        BadOverride{
            "TopK", {"model.moe.top_k=9"}, "command line: model.moe.top_k = 9 is larger than model.moe.num_experts = 8; use at most 8"},
        BadOverride{
            "Heads", {"model.num_attention_heads=3"}, "command line: model.num_attention_heads = 3 does not divide model.hidden_size = 16"},
        BadOverride{"HeadGroups",
                    {"model.num_key_value_heads=3"},
                    "FILE:5: model.num_attention_heads = 2 is not divisible by model.num_key_value_heads = 3"},
        BadOverride{"OddHead", {"model.head_dim=7"}, "command line: model.head_dim = 7 is odd"},
        BadOverride{"OddDefaultHead", {"model.hidden_size=6"}, "FILE:2: model.head_dim = 3 (the default) is odd"},
        BadOverride{"CapacityGroup",
                    {"model.moe.capacity_group={sequences: 3}"},
                    "command line: model.moe.capacity_group = {sequences: 3} does not divide training.micro_batch_size = 4; use "
                    "{sequences: n} with n one of 1, 2, 4"},
        BadOverride{"CapacityFactor",
                    {"model.moe.capacity_factor=0"},
                    "command line: model.moe.capacity_factor = 0 is out of range; use more than 0"},
        BadOverride{"GroupOfADroplessModel",
                    {"model.moe.capacity_factor=null", "model.moe.capacity_group=micro_batch"},
                    "command line: model.moe.capacity_group = micro_batch has no effect unless model.moe.capacity_factor is a number, or "
                    "the router "},
        BadOverride{"DecayOfACosine",
                    {"schedule.decay_fraction=0.1"},
                    "command line: schedule.decay_fraction = 0.1 has no effect unless schedule.kind is wsd"},
        BadOverride{"Router",
                    {"model.moe.router=soft"},
                    "command line: model.moe.router = \"soft\" is not a known routing rule; use dense, expert_choice, forced_random, "},
        BadOverride{"Renormalised",
                    {"model.moe.top_k=1", "model.moe.renormalize=true"},
                    "command line: model.moe.renormalize = true makes the only weight"},
        BadOverride{"BiasOfASoftmax",
                    {"model.moe.bias_update=0.001"},
                    "command line: model.moe.bias_update = 0.001 moves a bias that is added to scores which a softmax makes compete"},
        BadOverride{"DropsOfExpertChoice",
                    {"model.moe.router=expert_choice", "model.moe.drop_order=random"},
                    "command line: model.moe.drop_order = random drops nothing with model.moe.router: expert_choice"},
        BadOverride{"CapacityOfADenseGate",
                    {"model.moe.router=dense", "model.moe.top_k=8"},
                    "FILE:10: model.moe.capacity_factor = 2 drops assignments of a gate that makes all of them; use null"},
        BadOverride{"ExpertsOfABlockOverRanks",
                    {"model.moe.num_experts_by_layer={1: 7}", "parallel.expert=2"},
                    "command line: model.moe.num_experts_by_layer = {1: 7} gives block 1 7 experts, which parallel.expert = 2 ranks",
                    2},
        BadOverride{"Pooled",
                    {"model.moe.aux_loss_form=hugging_face", "model.moe.aux_loss_scope=sequence"},
                    "command line: model.moe.aux_loss_form = hugging_face pools"},
        BadOverride{
            "Gate", {"model.moe.shared_expert_gate=true"}, "command line: model.moe.shared_expert_gate = true has no shared expert"},
        BadOverride{"LayersOutside",
                    {"model.moe.layers=[1, 4]"},
                    "command line: model.moe.layers = [1, 4] names a block outside model.num_layers = 4; use 0 to 3"},
        BadOverride{"AliasOutside", {"model.moe.every=5"}, "command line: model.moe.layers = {every: 5} leaves no block"},
        BadOverride{"Warmup", {"schedule.warmup_steps=21"}, "command line: schedule.warmup_steps = 21 is more than training.steps = 20"},
        BadOverride{"SequenceLength",
                    {"data.sequence_length=33"},
                    "command line: data.sequence_length = 33 is longer than model.max_sequence_length = 32"},
        BadOverride{"ByteVocabulary", {"model.vocab_size=256"}, "command line: model.vocab_size = 256 is too small for the byte tokenizer"},
        BadOverride{"EvaluationWithoutData",
                    {"evaluation.every=5"},
                    "command line: evaluation.every = 5 asks for evaluations, but no source has held-out data"},
        BadOverride{"TwoWaysToHoldOut",
                    {"data.sources=[{name: a, path: b, validation_path: c, validation_fraction: 0.1}]"},
                    "command line: data.sources[0].validation_fraction = 0.1 stands beside data.sources[0].validation_path"},
        BadOverride{"SameName",
                    {"data.sources=[{name: a, path: b}, {name: a, path: c}]"},
                    "command line: data.sources[1].name = \"a\" is the name of data.sources[0].name too"},
        BadOverride{"Weight",
                    {"data.sources=[{name: a, path: b, weight: 0}]"},
                    "command line: data.sources[0].weight = 0 is out of range; use more than 0"},
        BadOverride{"ParameterCount",
                    {"model.hidden_size=16777216", "model.moe.ffn_hidden_size=16777216", "model.moe.num_experts=16777216"},
                    "command line: model.hidden_size = 16777216 gives more than 9e18 parameters"}),
    name_of);

TEST(BadFile, ReportsAllFaultsInTheOrderOfTheFileThenTheCommandLine) {
  const std::string text =
      "config_version: 1\n"
      "model:\n"
      "  num_layer: 4\n"
      "  moe:\n"
      "    num_experts: 6\n"
      "    ffn_hidden_size: &width 8\n"
      "parallel:\n"
      "  expert: 4\n"
      "  expert: 2\n"
      "data:\n"
      "  sources: [{name: a, path: a.txt}]\n"
      "training:\n"
      "  steps: ten\n"
      "  global_batch_size: 8\n";
  EXPECT_EQ(refusal(text, {"training.seed=x"}, 4),
            "FILE:3: model.num_layer = 4 is not a known key; did you mean model.num_layers?\n"
            "FILE:5: model.moe.num_experts = 6 is not divisible by parallel.expert = 4; use 4 or 8 experts, or parallel.expert 1, 2\n"
            "FILE:6: anchors (&name) are not allowed; write the value out\n"
            "FILE:9: parallel.expert is given twice, first in line 8; keep one\n"
            "FILE:12: training.micro_batch_size is missing; state it (integer): Sequences that a rank computes at once; micro_batch_size x "
            "ranks divides global_batch_size.\n"
            "FILE:13: training.steps = ten is not a whole number; write decimal digits, such as 1000 or 1e3\n"
            "command line: training.seed = x is not a whole number; write decimal digits, such as 1000 or 1e3");
}

TEST(BadFile, DoesNotBlameARuleForAValueThatIsFaultyItself) {
  EXPECT_EQ(refusal(kMoeConfig, {"model.moe.num_experts=x", "model.moe.top_k=100"}),
            "command line: model.moe.num_experts = x is not a whole number; write decimal digits, such as 1000 or 1e3");
}

TEST(BadFile, StopsAtBrokenYaml) {
  EXPECT_EQ(refusal("model: [1\n", {}).find("FILE:2: is not valid YAML"), 0u);
  EXPECT_EQ(refusal("a: 1\n---\nb: 2\n", {}), "FILE:2: a second document begins here; keep one document a file");
  EXPECT_EQ(refusal("", {}), "FILE: is empty; see docs/configuration.md for what belongs into it");
  EXPECT_EQ(refusal("- 1\n", {}).find("FILE:1: is not a list of sections"), 0u);
}

TEST(BadFile, ThatDoesNotExistIsNamed) {
  try {
    load_run_config("/nonexistent.yaml", {"training.steps=1"}, 1);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "/nonexistent.yaml: cannot be read: No such file or directory");
  }
}

TEST(BadFile, EndsItsListOfFaultsAfterFifty) {
  std::string text = kMoeConfig;
  for (int i = 0; i < 60; ++i) text += "unknown_" + std::to_string(i) + ": 1\n";
  const std::string message = refusal(text, {});
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 50);
  EXPECT_TRUE(message.ends_with("... and 10 more"));
}

TEST(BadFile, ShortensLongValuesAndKeepsOneLineAFault) {
  const std::string message = refusal(kMoeConfig, {"training.steps=\"" + std::string(1000, 'x') + "\\n\""});
  EXPECT_LT(message.size(), 250u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace switchyard
