// Values that can be written in several ways, and settings on the command line.
#include <gtest/gtest.h>

#include "tests/training/config_file.h"

namespace switchyard {
namespace {

TEST(RunConfig, ReadsAllFormsOfTheMoeLayers) {
  const auto layers = [](const std::string& assignment) { return load(kMoeConfig, {assignment}).model.moe->layers; };
  EXPECT_EQ(layers("model.moe.layers=all").count, 1);
  EXPECT_EQ(layers("model.moe.layers={every: 2}").count, 2);
  EXPECT_EQ(layers("model.moe.every=2").count, 2);
  EXPECT_EQ(layers("model.moe.first_dense=1").kind, LayerSet::Kind::kFirstDense);
  EXPECT_EQ(layers("model.moe.layers={first_dense: 1}").kind, LayerSet::Kind::kFirstDense);
  EXPECT_EQ(layers("model.moe.layers=[0, 3]").list, (std::vector<int64_t>{0, 3}));
}

TEST(RunConfig, ReadsAllFormsOfCapacity) {
  const auto moe = [](const std::string& assignment) { return *load(kMoeConfig, {assignment}).model.moe; };
  EXPECT_EQ(moe("model.moe.capacity_group=micro_batch").capacity_group.sequences, 0);
  EXPECT_EQ(moe("model.moe.capacity_group={sequences: 4}").capacity_group.sequences, 4);
  EXPECT_EQ(moe("model.moe.drop_order=[choice, position]").drop_order, DropOrder::kChoicePosition);
  EXPECT_EQ(moe("model.moe.drop_order=[choice, score, position]").drop_order, DropOrder::kChoiceScorePosition);
  EXPECT_EQ(moe("model.moe.drop_order=[score, position]").drop_order, DropOrder::kScorePosition);
  EXPECT_FALSE(moe("model.moe.capacity_factor=null").capacity_factor.has_value());
}

TEST(RunConfig, AcceptsExactExponents) {
  EXPECT_EQ(load(kDenseConfig, {"training.steps=1e3"}).training.steps, 1000);
  EXPECT_EQ(load(kDenseConfig, {"training.steps=1.5E3"}).training.steps, 1500);
  EXPECT_EQ(load(kDenseConfig, {"training.steps=2500e-2"}).training.steps, 25);
  EXPECT_EQ(load(kDenseConfig, {"optimizer.learning_rate=3"}).optimizer.learning_rate, 3.0);
  EXPECT_EQ(load(kDenseConfig, {"optimizer.eps=.5e-7"}).optimizer.eps, 0.5e-7);
}

TEST(Overrides, TheLastOfEqualKeysWins) {
  EXPECT_EQ(load(kDenseConfig, {"training.steps=5", "training.steps=6"}).training.steps, 6);
}

TEST(Overrides, MakeSectionsThatTheFileLacks) {
  EXPECT_EQ(load(kDenseConfig, {"model.moe.ffn_hidden_size=12", "model.moe.num_experts=4"}).model.moe->num_experts, 4);
}

TEST(Overrides, NullGoesBackToTheDefault) {
  EXPECT_EQ(load(kDenseConfig, {"training.seed=null"}).training.seed, TrainingConfig{}.seed);
  EXPECT_FALSE(load(kMoeConfig, {"model.moe=null"}).model.moe.has_value());
}

TEST(Overrides, ReplaceTheListOfSources) {
  const RunConfig config = load(kDenseConfig, {"data.sources=[{name: x, path: [x.txt, y.txt], weight: 0.5}]"});
  ASSERT_EQ(config.data.sources.size(), 1u);
  EXPECT_EQ(config.data.sources[0].paths.size(), 2u);
  EXPECT_EQ(config.data.sources[0].weight, 0.5);
}

}  // namespace
}  // namespace switchyard
