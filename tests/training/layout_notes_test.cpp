#include "training/layout_notes.h"

#include <gtest/gtest.h>

#include "tests/training/config_file.h"

namespace switchyard {
namespace {

std::vector<std::string> notes_of(const std::vector<std::string>& overrides, int64_t world_size = 2) {
  const ConfigFile file(kMoeConfig);
  return layout_notes(load_run_config(file.path(), overrides, world_size), world_size);
}

using Notes = std::vector<std::string>;

TEST(LayoutNotes, SayWhichScopesDependOnTheLayoutAndOnWhat) {
  EXPECT_EQ(notes_of({"model.moe.aux_loss_scope=micro_batch"}),
            Notes{"scope micro_batch (aux_loss) depends on the layout: balance is measured over each rank's micro-batch; only "
                  "layouts with the same training.micro_batch_size, 4, agree"});
  EXPECT_EQ(notes_of({"model.moe.aux_loss_scope=running"}),
            Notes{"scope running (aux_loss) depends on the layout: balance is measured over the step's micro-batches so far; "
                  "only layouts with the same training.micro_batch_size x ranks, 8, agree"});
  EXPECT_EQ(notes_of({"model.moe.aux_loss_scope=running"}, /*world_size=*/0),
            Notes{"scope running (aux_loss) depends on the layout: balance is measured over the step's micro-batches so far; "
                  "only layouts with the same training.micro_batch_size x ranks agree"});
  EXPECT_EQ(notes_of({"model.moe.aux_loss_scope=sequence"}), Notes{});
  EXPECT_EQ(notes_of({"model.moe.aux_loss_scope=lagged"}), Notes{});
}

TEST(LayoutNotes, SayThatTheExactScopeCountsInAForwardOfItsOwn) {
  EXPECT_EQ(notes_of({}), Notes{"scope global_batch (aux_loss) with 2 micro-batches a rank: each step makes one more forward "
                                "without gradients, to count first; lagged and running do without"});
  EXPECT_EQ(notes_of({}, /*world_size=*/4), Notes{});
}

TEST(LayoutNotes, AreSilentAboutAScopeThatWeighsNothing) {
  EXPECT_EQ(notes_of({"model.moe.aux_loss_coeff=0", "model.moe.aux_loss_scope=micro_batch"}), Notes{});
  EXPECT_EQ(notes_of({"model.moe.aux_loss_coeff=0", "model.moe.importance_loss_coeff=0.1", "model.moe.aux_loss_scope=micro_batch"}).size(),
            1u);
  EXPECT_EQ(notes_of({"model.moe=null"}), Notes{});
}

TEST(LayoutNotes, SayThatACapacityGroupDependsOnTheLayoutOrDropsByChance) {
  EXPECT_EQ(
      notes_of({"model.moe.capacity_group=micro_batch"}, /*world_size=*/4),
      Notes{"model.moe.capacity_group = micro_batch depends on the layout: a rank's micro-batch competes for slots; only layouts with "
            "the same training.micro_batch_size, 4, agree"});
  // 4 tokens x 2 / 8 experts = 1 assignment an expert, 1 slot: of Poisson's 1 the share exp(-1) = 37 % finds it taken.
  EXPECT_EQ(notes_of({"data.sequence_length=4", "model.moe.capacity_factor=1.0"}, /*world_size=*/4),
            Notes{"model.moe.capacity_group: 4 tokens are 1 assignments an expert for 1 slots; even a router without preferences drops "
                  "about 37 %; larger groups or a larger model.moe.capacity_factor drop less"});
  EXPECT_EQ(notes_of({"model.moe.capacity_factor=1e9"}, /*world_size=*/4), Notes{});
}

}  // namespace
}  // namespace switchyard
