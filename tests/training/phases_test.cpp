// What an observer is told while a run goes on.
#include <fstream>

#include <gtest/gtest.h>

#include "tests/temporary_folder.h"
#include "tests/tiny_models.h"
#include "training/trainer.h"

namespace switchyard {
namespace {

/// "step 1", "data", "dispatch 0", without repetitions.
class Diary : public PhaseObserver {
 public:
  void start_step(int64_t step) override { write("step " + std::to_string(step)); }
  void enter(Phase phase, int64_t layer) override { write(to_string(phase) + (layer < 0 ? std::string() : " " + std::to_string(layer))); }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  void write(const std::string& line) {
    if (lines_.empty() || lines_.back() != line) lines_.push_back(line);
  }

  std::vector<std::string> lines_;
};

std::vector<std::string> diary_of_one_step(Recompute recompute) {
  const TemporaryFolder folder;
  const auto text = folder.path() / "text.txt";
  std::ofstream(text) << std::string(2000, 'a');
  RunConfig config;
  config.model = tiny_config();
  config.model.vocab_size = 257;
  config.data.sequence_length = 8;
  config.data.sources = {{.name = "text", .paths = {text.string()}, .validation_paths = {}, .validation_fraction = 0.1}};
  config.training.steps = 1;
  config.training.global_batch_size = config.training.micro_batch_size = 2;
  config.training.precision = Precision::kFp32;
  config.training.recompute = recompute;
  config.logging.tensorboard = false;
  config.logging.peak_gflops = 1.0;
  Diary diary;
  Trainer trainer({.config = config,
                   .folder = RunFolder(folder.path() / "run"),
                   .data = std::make_shared<TrainingData>(config),
                   .held_out = std::make_shared<EvaluationData>(config),
                   .world = make_single_communicator(),
                   .launch = {},
                   .command_line = "test",
                   .observer = &diary});
  trainer.run();
  return diary.lines();
}

using Lines = std::vector<std::string>;

TEST(Phases, OfAStepAreToldInTheirOrderWithTheLayer) {
  const Lines expected = {"init",        "step 1",      "data",          "forward",    "embedding",  "forward",
                          "attention 0", "forward 0",   "router 0",      "dispatch 0", "experts 0",  "combine 0",
                          "forward 0",   "attention 1", "forward 1",     "router 1",   "dispatch 1", "experts 1",
                          "combine 1",   "forward 1",   "loss",          "forward",    "backward",   "backward 1",
                          "backward 0",  "backward",    "gradient sync", "optimizer",  "evaluation", "checkpoint"};
  EXPECT_EQ(diary_of_one_step(Recompute::kNone), expected);
}

TEST(Phases, OfRecomputationAreToldInBackward) {
  const auto lines = diary_of_one_step(Recompute::kMoe);
  const auto backward = std::find(lines.begin(), lines.end(), "backward");
  const Lines expected = {"backward", "router 1",   "dispatch 1", "experts 1", "combine 1", "forward 1",  "backward 1",
                          "router 0", "dispatch 0", "experts 0",  "combine 0", "forward 0", "backward 0", "backward"};
  EXPECT_EQ(Lines(backward, std::min(lines.end(), backward + 14)), expected);
}

}  // namespace
}  // namespace switchyard
