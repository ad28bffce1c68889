// Runs whose answer needs more than weights: the sums of the step before (scope lagged), and where documents end.
#include "tests/training/trainer_fixture.h"

namespace switchyard {
namespace {

void expect_same_steps(const std::vector<nlohmann::json>& a, const std::vector<nlohmann::json>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i].contains("loss")) continue;
    for (const auto* field : {"loss", "cross_entropy", "aux_loss", "importance_loss", "z_loss", "grad_norm"}) {
      const double x = a[i].at(field).get<double>(), y = b[i].at(field).get<double>();
      EXPECT_NEAR(x, y, 1e-10 * std::max(1.0, std::abs(x))) << field << " of record " << i;
    }
  }
}

class BalancedRun : public TrainerTest {
 protected:
  BalancedRun() {
    config_.model.moe->aux_loss_scope = config_.model.moe->importance_loss_scope = AuxLossScope::kLagged;
    config_.model.moe->aux_loss_coeff = 1.0;
    config_.model.moe->importance_loss_coeff = 0.5;
    config_.training.micro_batch_size = 2;
  }

  void forget_steps_after_four(const std::string& run) const {
    std::filesystem::remove_all(folder_.path() / run / "checkpoints" / "step-6");
  }

  void expect_to_go_on_to_the_bit(int64_t ranks = 1) {
    for (const auto* run : {"whole", "resumed"}) train_on_threads(run, ranks);
    forget_steps_after_four("resumed");
    train_on_threads("resumed", ranks);
    EXPECT_EQ(results("whole").back().at("step"), 6);
    EXPECT_EQ(results("resumed"), results("whole"));
  }
};

TEST_F(BalancedRun, WithScopeLaggedGoesOnToTheBitFromItsCheckpoint) {
  expect_to_go_on_to_the_bit();
}

TEST_F(BalancedRun, OnRanksThatShareExpertsGoesOnToTheBitToo) {
  config_.parallel.expert = 2;
  config_.training.micro_batch_size = 1;
  expect_to_go_on_to_the_bit(/*ranks=*/2);
}

TEST_F(BalancedRun, WithScopeRunningGoesOnToTheBitBecauseNothingOutlivesAStep) {
  config_.model.moe->aux_loss_scope = config_.model.moe->importance_loss_scope = AuxLossScope::kRunning;
  expect_to_go_on_to_the_bit();
}

TEST_F(BalancedRun, WithScopeLaggedGoesOnInAnotherLayout) {
  config_.training.precision = Precision::kFp64;
  train("whole");
  config_.parallel.expert = 2;
  config_.training.micro_batch_size = 1;
  train_on_threads("moved", 2);
  forget_steps_after_four("moved");
  config_.parallel.expert = 1;
  config_.training.micro_batch_size = 4;
  train("moved");
  forget_steps_after_four("moved");
  config_.training.micro_batch_size = 1;
  train_on_threads("moved", 4);
  expect_same_steps(records("whole"), records("moved"));
}

class DocumentRun : public TrainerTest {
 protected:
  /// Documents of 3 to 9 bytes in rows of 8 tokens.
  DocumentRun() {
    auto& source = config_.data.sources[0];
    source.paths.clear();
    for (int i = 0; i < 120; ++i) {
      source.paths.push_back((folder_.path() / ("document" + std::to_string(i) + ".txt")).string());
      std::ofstream(source.paths.back())
          << std::string("abcdefghij").substr(static_cast<size_t>(i % 4), static_cast<size_t>(3 + i * 5 % 7));
    }
    config_.training.precision = Precision::kFp64;
    config_.data.reset_attention_mask = config_.data.reset_position_ids = true;
  }
};

TEST_F(DocumentRun, HasOneAnswerOnEveryLayout) {
  train("one");
  config_.training.micro_batch_size = 2;
  train("two micro-batches");
  config_.parallel.expert = 2;
  train_on_threads("two ranks", 2);
  config_.training.micro_batch_size = 1;
  config_.training.recompute = Recompute::kBlock;
  train_on_threads("four ranks", 4);
  const auto reference = records("one");
  for (const auto* run : {"two micro-batches", "two ranks", "four ranks"}) {
    SCOPED_TRACE(run);
    expect_same_steps(reference, records(run));
    const auto evaluation_of = [](const nlohmann::json& record) {
      return record.at("evaluation").at("text").at("cross_entropy").get<double>();
    };
    EXPECT_NEAR(evaluation_of(records(run).back()), evaluation_of(reference.back()), 1e-10);
  }
}

TEST_F(DocumentRun, HasAnotherAnswerThanARunAcrossDocuments) {
  train("within");
  config_.data.reset_attention_mask = config_.data.reset_position_ids = false;
  train("across");
  EXPECT_GT(std::abs(records("within")[0].at("cross_entropy").get<double>() - records("across")[0].at("cross_entropy").get<double>()),
            1e-6);
}

}  // namespace
}  // namespace switchyard
