#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/bench/bench_settings.h"
#include "training/bench/benches.h"

namespace switchyard {
namespace {

BenchRow row(const std::string& name, std::vector<double> seconds, double flops, const std::string& limit = "") {
  return {{.name = name, .run = {}, .flops = flops, .limit = limit}, std::move(seconds), {}};
}

TEST(BenchRatio, ComparesSpeedsTurnByTurn) {
  // Twice the work in three times the time, whatever slowed both in the second turn.
  const std::vector<BenchRow> rows = {row("limit", {1.0, 10.0, 1.0}, 5.0), row("part", {3.0, 30.0, 3.0}, 10.0, "limit")};
  EXPECT_DOUBLE_EQ(*ratio_to_limit(rows[1], rows), 2.0 / 3.0);
  EXPECT_FALSE(ratio_to_limit(rows[0], rows));
  EXPECT_FALSE(balanced_ratio(rows[1], rows));
  EXPECT_DOUBLE_EQ(rows[1].min_seconds(), 3.0);
  EXPECT_DOUBLE_EQ(median({4.0, 1.0, 2.0, 3.0}), 2.5);
}

TEST(BenchRatio, CanLeaveImbalanceOut) {
  auto part = row("part", {2.0}, 1.0, "limit");
  part.imbalance = {1.5};
  const std::vector<BenchRow> rows = {row("limit", {1.0}, 1.0), part};
  EXPECT_DOUBLE_EQ(*ratio_to_limit(part, rows), 0.5);
  EXPECT_DOUBLE_EQ(*balanced_ratio(part, rows), 0.75);
}

TEST(BenchSettings, KnowShortFormsAndTokens) {
  const auto config =
      load_bench_config("", {"experts=16", "top_k=4", "d_model=64", "heads=4", "kv_heads=2", "dtype=fp64", "tokens=1024"}, 2);
  EXPECT_EQ(config.model.moe->num_experts, 16);
  EXPECT_EQ(config.model.moe->top_k, 4);
  EXPECT_EQ(config.model.hidden_size, 64);
  EXPECT_EQ(config.training.precision, Precision::kFp64);
  EXPECT_EQ(config.sequence_length(), 256);
  EXPECT_EQ(config.training.micro_batch_size, 2) << "four sequences on two ranks";
}

TEST(BenchSettings, RefuseWhatHasNoMeaning) {
  EXPECT_THROW(load_bench_config("", {"tokens=1023"}, 1), UserError);
  EXPECT_THROW(load_bench_config("", {"expertz=8"}, 1), UserError);
  EXPECT_THROW(load_bench_config("", {"experts=8", "top_k=9"}, 1), UserError);
}

BenchInputs small_inputs(std::vector<std::string> settings = {}) {
  settings.insert(settings.begin(),
                  {"d_model=32", "heads=2", "kv_heads=1", "layers=2", "vocab=64", "expert_ffn=16", "experts=4", "tokens=64", "dtype=fp32"});
  return {.config = load_bench_config("", settings, 1), .world = make_single_communicator(), .repetitions = {.timed = 2}};
}

/// All of one rank run, and their reports are JSON with the fields that programs read.
TEST(Bench, EveryBenchmarkOfOneRankGivesItsRows) {
  const std::map<std::string, std::string> row_of = {{"gemm", "Float expert up"},        {"moe_layer", "zipf"},
                                                     {"attention", "attention"},         {"step", "step"},
                                                     {"cross_entropy", "cross_entropy"}, {"checkpoint", "save_checkpoint"},
                                                     {"optimizer", "adamw_step"}};
  for (const auto& bench : benches()) {
    if (bench.name == std::string("all_to_all")) continue;
    auto inputs = small_inputs();
    inputs.folder = testing::TempDir();
    const auto report = bench.run(inputs);
    const auto json = nlohmann::json::parse(to_json(report, bench_place(*inputs.world, inputs.device)));
    EXPECT_EQ(json.at("benchmark"), bench.name);
    const auto& rows = json.at("rows");
    const auto found = std::ranges::find_if(rows, [&](const auto& one) { return one.at("name") == row_of.at(bench.name); });
    ASSERT_NE(found, rows.end()) << bench.name;
    EXPECT_GT(found->at("ratio_to_limit").get<double>(), 0.0);
    EXPECT_LE(found->at("milliseconds").at("min").get<double>(), found->at("milliseconds").at("median").get<double>());
  }
}

TEST(Bench, AStepTellsItsPhasesApart) {
  const auto report = bench_step(small_inputs());
  for (const char* phase : {"data", "embedding", "attention", "router", "dispatch", "experts", "combine", "loss", "attention backward",
                            "router backward", "dispatch backward", "experts backward", "combine backward", "gradient sync", "optimizer"}) {
    EXPECT_TRUE(report.phase_seconds.contains(phase)) << phase;
  }
}

TEST(Bench, RefusesWhatItCannotMeasure) {
  EXPECT_THROW(bench_all_to_all(small_inputs()), UserError);
  EXPECT_THROW(bench_moe_layer(small_inputs({"model.moe=null"})), UserError);
}

}  // namespace
}  // namespace switchyard
