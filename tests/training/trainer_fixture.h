// Whole runs of a tiny model on made-up text.
#pragma once

#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/temporary_folder.h"
#include "tests/tiny_models.h"
#include "training/trainer.h"

namespace switchyard {

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    std::ofstream text(folder_.path() / "text.txt");
    for (int i = 0; i < 400; ++i) text << "line " << i * i % 97 << " of the text\n";
    config_.name = "test";
    config_.data.sequence_length = 8;
    config_.model = tiny_config();
    config_.model.vocab_size = 257;
    config_.model.moe->capacity_factor = 1.25;
    config_.data.sources = {
        {.name = "text", .paths = {(folder_.path() / "text.txt").string()}, .validation_paths = {}, .validation_fraction = 0.1}};
    config_.training.steps = 6;
    config_.training.global_batch_size = 4;
    config_.training.micro_batch_size = 1;
    config_.training.precision = Precision::kFp32;
    config_.checkpoint.every = 2;
    config_.logging.tensorboard = false;
    config_.logging.peak_gflops = 1.0;
  }

  TrainOutcome train(const std::string& run, const CommunicatorPtr& world = make_single_communicator()) {
    Trainer trainer({.config = config_,
                     .folder = RunFolder(folder_.path() / run),
                     .data = std::make_shared<TrainingData>(config_),
                     .held_out = std::make_shared<EvaluationData>(config_),
                     .world = world,
                     .launch = {},
                     .command_line = "test",
                     .wants_to_stop = wants_to_stop_});
    return trainer.run();
  }

  /// The same on `ranks` threads.
  void train_on_threads(const std::string& run, int64_t ranks) {
    run_ranks_as_threads(ranks, [&](const CommunicatorPtr& world) { train(run, world); });
  }

  std::vector<nlohmann::json> records(const std::string& run) const {
    std::vector<nlohmann::json> all;
    std::ifstream file(folder_.path() / run / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }

  /// What a run computed, without what a clock measured.
  std::vector<nlohmann::json> results(const std::string& run) const {
    auto all = records(run);
    for (auto& record : all) {
      record.erase("tokens_per_second");
      record.erase("mfu");
      record.erase("phase_seconds");
    }
    return all;
  }

  TemporaryFolder folder_;
  RunConfig config_;
  std::function<bool()> wants_to_stop_ = [] { return false; };
};

}  // namespace switchyard
