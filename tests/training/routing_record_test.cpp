// The routers' choices on disk: the same for every layout, taken over exactly, and refused where they do not fit.
#include "training/routing_record.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/layout_run.h"
#include "tests/temporary_folder.h"
#include "tests/training/file_content.h"

namespace switchyard {
namespace {

LayoutCase on(LayoutCase job, int64_t ranks, int64_t expert, int64_t micro_batch_size) {
  job.ranks = ranks;
  job.parallel.expert = expert;
  job.micro_batch_size = micro_batch_size;
  return job;
}

LayoutCase recording(LayoutCase job, const std::filesystem::path& folder) {
  job.routing.record = folder.string();
  return job;
}

LayoutCase replaying(LayoutCase job, const std::filesystem::path& folder) {
  job.routing.replay = folder.string();
  return job;
}

TEST(RoutingRecord, IsTheSameFileForEveryLayout) {
  const TemporaryFolder folder;
  LayoutCase job{.steps = 3, .masked_tail = 3};
  job.model.moe->capacity_factor = 1.0;
  job.model.moe->input_jitter = 0.1;
  train_on_threads(recording(job, folder.path() / "one"));
  train_on_threads(recording(on(job, 2, 2, 1), folder.path() / "two"));  // with the forward that counts first
  auto four = on(job, 4, 2, 2);
  four.recompute = Recompute::kBlock;
  four.parallel.dispatch_chunks = 2;
  train_on_threads(recording(four, folder.path() / "four"));
  for (int64_t step = 1; step <= job.steps; ++step) {
    const auto one = read_content(choices_file(folder.path() / "one", step));
    EXPECT_EQ(one, read_content(choices_file(folder.path() / "two", step))) << step;
    EXPECT_EQ(one, read_content(choices_file(folder.path() / "four", step))) << step;
  }
}

TEST(RoutingRecord, HoldsEveryTokensChoicesBeforeDrops) {
  const TemporaryFolder folder;
  LayoutCase job{.steps = 1};
  job.model.moe->capacity_factor = 0.5;
  const auto trace = train_on_threads(recording(on(job, 2, 2, 4), folder.path()));
  const SafetensorsFile file(choices_file(folder.path(), 1));
  EXPECT_EQ(file.metadata().at("num_experts"), "4");
  ASSERT_EQ(file.entries().size(), 2u);
  const int64_t num_scalars_and_counts = RoutingSums::size({.num_experts = 4});
  for (int64_t layer = 0; layer < 2; ++layer) {
    const auto choices_GSK = file.read("layer." + std::to_string(layer));
    EXPECT_EQ(choices_GSK.scalar_type(), at::kShort);
    EXPECT_EQ(choices_GSK.sizes(), (std::vector<int64_t>{8, 8, 2}));
    for (int64_t expert = 0; expert < 4; ++expert) {
      EXPECT_EQ((choices_GSK == expert).sum().item<double>(), trace.steps[0].routing[layer * num_scalars_and_counts + expert]);
    }
  }
}

TEST(RoutingReplay, TakesTheRecordedExpertsWhateverTheRouterWants) {
  const TemporaryFolder folder;
  LayoutCase job{.steps = 1};
  // Everybody chooses experts 3 and 1, in this order.
  const auto choices = at::tensor({3, 1}, at::kShort).expand({8, 8, 2});
  write_safetensors(choices_file(folder.path(), 1), {{"layer.0", choices}, {"layer.1", choices}}, {{"num_experts", "4"}});
  for (const auto& layout : {job, on(job, 2, 2, 2), on(job, 4, 4, 1)}) {
    const auto trace = train_on_threads(replaying(layout, folder.path()));
    for (int64_t layer = 0; layer < 2; ++layer) {
      const auto first = trace.steps[0].routing.begin() + layer * RoutingSums::size({.num_experts = 4});
      EXPECT_EQ(std::vector<double>(first, first + 4), (std::vector<double>{0, 64, 0, 64}));
    }
  }
}

TEST(RoutingReplay, OfTheOwnChoicesChangesNoBit) {
  const TemporaryFolder folder;
  auto job = on({.steps = 3, .dtype = at::kFloat}, 2, 2, 2);
  job.model.moe->capacity_factor = 1.0;
  const auto recorded = train_on_threads(recording(job, folder.path()));
  for (const auto recompute : {Recompute::kNone, Recompute::kMoe, Recompute::kBlock}) {
    job.recompute = recompute;
    const auto replayed = train_on_threads(replaying(job, folder.path()));
    EXPECT_EQ(largest_difference(recorded, replayed, 3), 0.0);
    for (const auto& [name, tensor] : recorded.tensors) EXPECT_TRUE(at::equal(tensor, replayed.tensors.at(name))) << name;
  }
}

TEST(RoutingReplay, KeepsFp32LossesTogetherOverManyStepsAndLayouts) {
  const TemporaryFolder folder;
  const LayoutCase job{.steps = 50, .dtype = at::kFloat};
  const auto reference = train_on_threads(recording(job, folder.path()));
  for (const auto& layout : {on(job, 2, 1, 4), on(job, 2, 2, 2), on(job, 4, 2, 1), on(job, 4, 4, 2)}) {
    const auto trace = train_on_threads(replaying(layout, folder.path()));
    for (int64_t step = 0; step < job.steps; ++step) {
      EXPECT_LT(relative(trace.steps[step].loss, reference.steps[step].loss), 1e-4) << "step " << step + 1;
      // The counts are equal exactly: no choice fell the other way.
      EXPECT_EQ(trace.steps[step].routing[0], reference.steps[step].routing[0]) << "step " << step + 1;
    }
  }
}

/// What check_steps says; empty when it is content.
std::string complaint(const std::filesystem::path& folder, const ChoiceShape& shape, int64_t last = 1) {
  try {
    RoutingReplay(folder, shape).check_steps(1, last);
    return "";
  } catch (const UserError& error) {
    return error.what();
  }
}

TEST(RoutingReplay, RefusesARecordOfAnotherJobWithFileAndValues) {
  const TemporaryFolder folder;
  const ChoiceShape shape{.moe_layers = {1, 3}, .global_batch_size = 4, .sequence_length = 8, .num_choices = 2, .num_experts = {6, 6}};
  const auto choices = at::tensor({5, 0}, at::kShort).expand({4, 8, 2});
  write_safetensors(choices_file(folder.path(), 1), {{"layer.1", choices}, {"layer.3", choices}}, {{"num_experts", "6"}});
  const auto file = "routing.replay: " + (folder.path() / "step-1.safetensors").string() + ": ";
  EXPECT_EQ(complaint(folder.path(), shape), "");
  const auto changed = [&](auto change) {
    auto other = shape;
    change(other);
    return complaint(folder.path(), other);
  };
  const auto holds = file + "layer.1 holds [samples, tokens, choices a token] = [4, 8, 2], this run has ";
  const std::string advice = "; replay a record of the same model and batch";
  EXPECT_EQ(changed([](auto& s) { s.global_batch_size = 8; }), holds + "[8, 8, 2]" + advice);
  EXPECT_EQ(changed([](auto& s) { s.sequence_length = 16; }), holds + "[4, 16, 2]" + advice);
  EXPECT_EQ(changed([](auto& s) { s.num_choices = 1; }), holds + "[4, 8, 1]" + advice);
  EXPECT_EQ(changed([](auto& s) { s.num_experts = {8, 8}; }), file + "recorded with num_experts = 6, this run has 8" + advice);
  EXPECT_EQ(changed([](auto& s) { s.moe_layers = {1}, s.num_experts = {6}; }),
            file + "recorded with 2 MoE layers, this run has 1" + advice);
  EXPECT_EQ(changed([](auto& s) { s.moe_layers = {1, 2}; }), file + "holds nothing of MoE layer 2 of this run" + advice);
  EXPECT_EQ(complaint(folder.path(), shape, /*last=*/3), "routing.replay: " + (folder.path() / "step-2.safetensors").string() +
                                                             " is missing, this run needs steps 1 to 3; record that many");
  EXPECT_EQ(complaint(folder.path() / "nowhere", shape),
            "routing.replay: " + (folder.path() / "nowhere").string() + " is not a folder; name one that routing.record has filled");
}

TEST(RoutingReplay, RefusesChoicesThatNoRouterMakes) {
  const ChoiceShape shape{.moe_layers = {0}, .global_batch_size = 2, .sequence_length = 1, .num_choices = 2, .num_experts = {4}};
  TokenContext context;
  context.global_sample_B = at::arange(2, at::kLong);
  context.step = 1;
  for (const auto& [second, problem] : std::vector<std::pair<int64_t, std::string>>{
           {4, "names expert 4, there are 4"}, {-1, "names expert -1, there are 4"}, {3, "a token chooses an expert twice"}}) {
    const TemporaryFolder folder;
    const auto choices = at::tensor({0, 1, 3, static_cast<int>(second)}, at::kShort).view({2, 1, 2});
    write_safetensors(choices_file(folder.path(), 1), {{"layer.0", choices}}, {{"num_experts", "4"}});
    try {
      RoutingReplay(folder.path(), shape).choices(context, {});
      FAIL() << problem;
    } catch (const RunError& error) {
      EXPECT_NE(std::string(error.what()).find("step-1.safetensors: layer.0: " + problem), std::string::npos) << error.what();
    }
  }
}

TEST(RoutingReplay, StopsAtAStepThatIsMissing) {
  const TemporaryFolder folder;
  const LayoutCase job{.steps = 2};
  train_on_threads(recording(job, folder.path()));
  std::filesystem::remove(choices_file(folder.path(), 2));
  EXPECT_THROW(train_on_threads(replaying(on(job, 2, 2, 4), folder.path())), RunError);
}

TEST(RoutingRecord, ThatCannotBeWrittenStopsAllRanks) {
  const TemporaryFolder folder;
  const auto job = recording(on({.steps = 1}, 2, 2, 4), folder.path() / "record");
  run_ranks_as_threads(2, [&](const CommunicatorPtr& world) {
    RoutingRecorder recorder(folder.path() / "record", choice_shape(job.model, 2, 1), world);
    TokenContext context;
    context.global_sample_B = at::full({1}, world->rank(), at::kLong);
    for (context.layer = 0; context.layer < 2; ++context.layer) recorder.choices(context, [] { return longs({2, 3}).view({1, 2}); });
    world->barrier();
    if (world->rank() == 0) std::filesystem::remove_all(folder.path() / "record");
    EXPECT_THROW(recorder.write(1), RunError);
    world->barrier();  // nobody has left the order of exchanges
  });
}

}  // namespace
}  // namespace switchyard
