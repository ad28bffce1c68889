// Balancing scopes and capacity groups over layouts: those that are promised not to depend on the layout do not, and the others depend on
// just what the log says.
#include <gtest/gtest.h>

#include "tests/layout_run.h"

namespace switchyard {
namespace {

struct Layout {
  int64_t ranks, expert, micro_batch_size;
};

struct NamedJob {
  const char* name;
  LayoutCase job;
};

LayoutCase job_with(const std::function<void(MoeConfig&)>& change) {
  LayoutCase job;
  job.masked_tail = 3;
  job.model.moe->aux_loss_coeff = 0.1;
  change(*job.model.moe);
  return job;
}

LayoutTrace train_at(LayoutCase job, const Layout& layout) {
  job.ranks = layout.ranks;
  job.parallel.expert = layout.expert;
  job.micro_batch_size = layout.micro_batch_size;
  return train_on_threads(job);
}

void expect_one_answer(const LayoutCase& job, const Layout& first, const std::vector<Layout>& others) {
  const auto reference = train_at(job, first);
  for (const auto& layout : others) {
    const auto trace = train_at(job, layout);
    const auto where = ::testing::Message() << layout.ranks << " ranks, expert " << layout.expert << ", micro-batch "
                                            << layout.micro_batch_size;
    EXPECT_LT(largest_difference(reference, trace, 1), 1e-11) << where;
    EXPECT_LT(largest_difference(reference, trace, reference.steps.size()), 1e-10) << where;
    EXPECT_LT(largest_tensor_difference(reference, trace, job), 1e-9) << where;
  }
}

class LayoutFreeBalance : public ::testing::TestWithParam<NamedJob> {};

TEST_P(LayoutFreeBalance, HasOneAnswerOnEveryLayout) {
  const auto& job = GetParam().job;
  const int64_t group = job.model.moe->capacity_factor ? job.model.moe->capacity_group.sequences : 1;
  std::vector<Layout> layouts = {{1, 1, 2}, {1, 1, 1}, {2, 1, 4}, {2, 2, 2}, {2, 2, 1}, {4, 2, 2}, {4, 4, 2}, {4, 2, 1}};
  std::erase_if(layouts, [&](const Layout& layout) { return layout.micro_batch_size % group != 0; });
  expect_one_answer(job, {1, 1, 8}, layouts);
}

INSTANTIATE_TEST_SUITE_P(Jobs, LayoutFreeBalance,
                         ::testing::Values(NamedJob{"GlobalBatchWithImportance",
                                                    job_with([](MoeConfig& moe) { moe.importance_loss_coeff = 0.2; })},
                                           NamedJob{"ImportanceAlone", job_with([](MoeConfig& moe) {
                                                      moe.aux_loss_coeff = 0.0;
                                                      moe.importance_loss_coeff = 0.2;
                                                    })},
                                           NamedJob{"SequencesWithImportance", job_with([](MoeConfig& moe) {
                                                      moe.importance_loss_coeff = 0.2;
                                                      moe.aux_loss_scope = moe.importance_loss_scope = AuxLossScope::kSequence;
                                                    })},
                                           NamedJob{"LaggedWithImportance", job_with([](MoeConfig& moe) {
                                                      moe.importance_loss_coeff = 0.2;
                                                      moe.aux_loss_scope = moe.importance_loss_scope = AuxLossScope::kLagged;
                                                    })},
                                           NamedJob{"LaggedHuggingFace", job_with([](MoeConfig& moe) {
                                                      moe.aux_loss_form = AuxLossForm::kHuggingFace;
                                                      moe.aux_loss_scope = AuxLossScope::kLagged;
                                                    })},
                                           NamedJob{"CapacityGroupsOfTwoSequences", job_with([](MoeConfig& moe) {
                                                      moe.capacity_factor = 0.8;
                                                      moe.capacity_group.sequences = 2;
                                                      moe.drop_order = DropOrder::kChoiceScorePosition;
                                                    })}),
                         [](const auto& info) { return std::string(info.param.name); });

void expect_to_depend_on_the_micro_batch_size_alone(const LayoutCase& job) {
  expect_one_answer(job, {1, 1, 2}, {{2, 1, 2}, {2, 2, 2}, {4, 2, 2}, {4, 4, 2}});
  EXPECT_GT(largest_difference(train_at(job, {1, 1, 2}), train_at(job, {1, 1, 4}), 1), 1e-4);
}

TEST(MicroBatchScope, DependsOnTheMicroBatchSizeAndOnNothingElse) {
  const auto job = job_with([](MoeConfig& moe) {
    moe.importance_loss_coeff = 0.2;
    moe.aux_loss_scope = moe.importance_loss_scope = AuxLossScope::kMicroBatch;
  });
  expect_to_depend_on_the_micro_batch_size_alone(job);
}

TEST(MicroBatchCapacityGroup, DependsOnTheMicroBatchSizeAndOnNothingElse) {
  const auto job = job_with([](MoeConfig& moe) {
    moe.capacity_factor = 0.8;
    moe.capacity_group.sequences = 0;
  });
  expect_to_depend_on_the_micro_batch_size_alone(job);
}

TEST(RunningScope, DependsOnTheSequencesThatAllRanksComputeAtOnceAndOnNothingElse) {
  const auto job = job_with([](MoeConfig& moe) {
    moe.importance_loss_coeff = 0.2;
    moe.aux_loss_scope = moe.importance_loss_scope = AuxLossScope::kRunning;
  });
  expect_one_answer(job, {1, 1, 4}, {{2, 1, 2}, {2, 2, 2}, {4, 2, 1}, {4, 4, 1}});
  EXPECT_GT(largest_difference(train_at(job, {1, 1, 4}), train_at(job, {1, 1, 2}), 1), 1e-6);
}

TEST(RunningScope, WithOneMicroBatchARankIsTheGlobalBatch) {
  const auto global = job_with([](MoeConfig& moe) { moe.importance_loss_coeff = 0.2; });
  auto running = global;
  running.model.moe->aux_loss_scope = AuxLossScope::kRunning;
  EXPECT_EQ(largest_difference(train_at(global, {2, 2, 4}), train_at(running, {2, 2, 4}), 5), 0.0);
}

TEST(LaggedScope, DiffersFromTheGlobalBatchFromTheSecondStepOn) {
  const auto global = job_with([](MoeConfig&) {});
  auto lagged = global;
  lagged.model.moe->aux_loss_scope = AuxLossScope::kLagged;
  const auto exact = train_at(global, {2, 2, 2}), late = train_at(lagged, {2, 2, 2});
  EXPECT_EQ(largest_difference(exact, late, 1), 0.0);
  EXPECT_GT(largest_difference(exact, late, 2), 1e-6);
}

}  // namespace
}  // namespace switchyard
