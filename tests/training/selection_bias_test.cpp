// Balance without a loss: the bias that is added to scores for the choice.
#include "training/selection_bias.h"

#include "tests/training/trainer_fixture.h"

namespace switchyard {
namespace {

ModelConfig sigmoid_config() {
  auto config = tiny_config();
  config.moe->score = ScoreFunction::kSigmoid;
  config.moe->bias_update = 0.25;
  config.moe->aux_loss_coeff = 0.0;
  return config;
}

RoutingSums sums_with(const std::vector<double>& assigned) {
  const SumsShape shape{static_cast<int64_t>(assigned.size())};
  RoutingSums sums(at::zeros({RoutingSums::size(shape)}, at::kDouble), shape);
  sums.assigned_E().copy_(at::tensor(assigned, at::kDouble));
  return sums;
}

TEST(SelectionBias, RisesWhereAnExpertGotLessThanItsShareAndFallsWhereItGotMore) {
  const auto model = tiny_model(sigmoid_config(), at::kFloat);
  update_selection_bias(model, {sums_with({6, 2, 4, 4}), sums_with({0, 8, 8, 0})});
  expect_equal(model->moe_layers()[0]->router()->selection_bias(), at::tensor({-0.25F, 0.25F, 0.0F, 0.0F}));
  expect_equal(model->moe_layers()[1]->router()->selection_bias(), at::tensor({0.25F, -0.25F, -0.25F, 0.25F}));
}

class SelectionBiasRun : public TrainerTest {
 protected:
  SelectionBiasRun() {
    config_.model.moe = sigmoid_config().moe;
    config_.model.moe->bias_update = 0.01;
    config_.schedule.kind = ScheduleKind::kConstant;    // other kinds follow training.steps
    config_.data.sources[0].validation_fraction = 0.0;  // the first part would end with an evaluation more
  }
};

TEST_F(SelectionBiasRun, GoesOnFromACheckpointToTheBit) {
  train("whole");
  config_.training.steps = 4;
  train("parts");
  config_.training.steps = 6;
  train("parts");
  EXPECT_EQ(results("whole"), results("parts"));
}

}  // namespace
}  // namespace switchyard
