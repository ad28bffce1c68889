// Whole runs on made-up text: resume, other layouts, other jobs, stop.
#include "core/error.h"
#include "tests/training/trainer_fixture.h"
#include "training/saved_run.h"

namespace switchyard {
namespace {

TEST_F(TrainerTest, WritesTheNamedFieldsOfEveryStep) {
  EXPECT_EQ(train("run"), TrainOutcome::kFinished);
  const auto all = records("run");
  ASSERT_EQ(all.size(), 7u);  // six steps and the evaluation at the end
  for (const auto* field : {"step", "loss", "cross_entropy", "aux_loss", "z_loss", "grad_norm", "learning_rate", "tokens_per_second", "mfu",
                            "dropped_share", "load_imbalance", "expert_counts", "dropped_counts", "moe_layers"}) {
    EXPECT_TRUE(all[0].contains(field)) << field;
  }
  EXPECT_EQ(all[0].at("expert_counts").size(), 2u);
  int64_t assigned = 0;
  for (const auto& count : all[0].at("expert_counts")[0]) assigned += count.get<int64_t>();
  EXPECT_EQ(assigned, 4 * 8 * 2);  // sequences x tokens x choices
  EXPECT_FALSE(all[6].contains("loss"));
  EXPECT_GT(all[6].at("evaluation").at("text").at("bits_per_byte").get<double>(), 0.0);
}

TEST_F(TrainerTest, ResumedRunEqualsTheUninterruptedOneToTheBit) {
  config_.schedule.kind = ScheduleKind::kConstant;  // other kinds follow training.steps
  train("reference");
  config_.training.steps = 3;
  train("parts");
  config_.training.steps = 6;
  train("parts");
  const auto parts = results("parts"), reference = results("reference");
  // The first part ended with an evaluation after step 3, which the uninterrupted run does not have.
  std::vector<nlohmann::json> steps;
  for (const auto& record : parts) {
    if (record.contains("loss") || record.at("step") == 6) steps.push_back(record);
  }
  EXPECT_EQ(steps, reference);
}

TEST_F(TrainerTest, AfterACrashMetricsAreCutBackToTheCheckpoint) {
  train("whole");
  train("crashed");
  // As a killed process leaves it: the newest checkpoint is of step 4, metrics go on to step 6 and end in a torn line.
  std::filesystem::remove_all(folder_.path() / "crashed" / "checkpoints" / "step-6");
  std::ofstream(folder_.path() / "crashed" / "metrics.jsonl", std::ios::app) << R"({"step": 7, "lo)";
  EXPECT_EQ(train("crashed"), TrainOutcome::kFinished);
  EXPECT_EQ(results("crashed"), results("whole"));
}

TEST_F(TrainerTest, AFinishedRunIsNotTrainedAgain) {
  train("run");
  EXPECT_EQ(train("run"), TrainOutcome::kAlreadyFinished);
  EXPECT_EQ(records("run").size(), 7u);
}

TEST_F(TrainerTest, ACheckpointOfOneLayoutGoesOnInAnother) {
  config_.training.precision = Precision::kFp64;
  train("one");
  config_.parallel.expert = 2;
  train_on_threads("two", 2);
  config_.parallel.expert = 1;
  std::filesystem::remove_all(folder_.path() / "two" / "checkpoints" / "step-6");
  train("two");  // steps 5 and 6 on one rank, from what two ranks wrote
  const auto one = records("one"), two = records("two");
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(one[i].at("loss").get<double>(), two[i].at("loss").get<double>(), 1e-10 * one[i].at("loss").get<double>()) << i;
    EXPECT_NEAR(one[i].at("grad_norm").get<double>(), two[i].at("grad_norm").get<double>(), 1e-9 * one[i].at("grad_norm").get<double>())
        << i;
  }
}

TEST_F(TrainerTest, ResumedWithZeroAndOverlapARunEqualsThePlainOneToTheBit) {
  const auto train_on_two = [&](const std::string& run) {
    run_ranks_as_threads(2, [&](const CommunicatorPtr& world) { train(run, world); });
  };
  config_.training.precision = Precision::kBf16;
  train_on_two("plain");
  config_.parallel.zero_stage = 1;
  config_.parallel.gradient_bucket_size = 1000;
  config_.parallel.overlap_gradient_sync = true;
  train_on_two("zero");
  std::filesystem::remove_all(folder_.path() / "zero" / "checkpoints" / "step-6");
  train_on_two("zero");  // steps 5 and 6 once more, from the parts that two ranks wrote
  EXPECT_EQ(results("zero"), results("plain"));
}

TEST_F(TrainerTest, RefusesAFolderOfAnotherJobAndSaysWhatDiffers) {
  train("run");
  config_.training.seed = 99;
  config_.training.steps = 8;
  try {
    RunFolder(folder_.path() / "run").check_same_job(config_);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("training.seed"), std::string::npos) << error.what();
  }
  EXPECT_THROW(train("run"), UserError);
}

TEST_F(TrainerTest, RefusesDataThatChangedSinceTheCheckpoint) {
  train("run");
  std::ofstream(folder_.path() / "text.txt", std::ios::app) << "one more line\n";
  config_.training.steps = 8;
  EXPECT_THROW(train("run"), UserError);
}

TEST_F(TrainerTest, StopsBeforeTheUpdateWhenTheLossIsNotFinite) {
  config_.optimizer.learning_rate = 1e30;
  try {
    train("run");
    FAIL() << "went on";
  } catch (const AgreedError& error) {
    EXPECT_NE(std::string(error.what()).find("nothing was updated"), std::string::npos) << error.what();
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path() / "run" / "checkpoints")) {
    if (!entry.is_directory()) continue;
    EXPECT_NO_THROW(CheckpointReader(entry.path()).verify());
  }
}

TEST_F(TrainerTest, AWishToStopSavesAndStopsAndTheSameCommandGoesOn) {
  train("whole");
  config_.checkpoint.every = 0;
  wants_to_stop_ = [] { return true; };
  EXPECT_EQ(train("stopped"), TrainOutcome::kStoppedBySignal);
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "stopped" / "checkpoints" / "step-1" / "manifest.json"));
  wants_to_stop_ = [] { return false; };
  EXPECT_EQ(train("stopped"), TrainOutcome::kFinished);
  EXPECT_EQ(results("stopped"), results("whole"));
}

}  // namespace
}  // namespace switchyard
