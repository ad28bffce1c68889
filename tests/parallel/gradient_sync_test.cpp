#include "parallel/gradient_sync.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "parallel/forwarding_communicator.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

/// fp64, so that 64 bytes are 8 elements: first [0, 16), last [16, 32), and behind them, as it does not decay, norm [32, 40). Declared, and
/// used, in the order first, norm, last.
struct ThreeParameters {
  at::Tensor first = at::full({16}, 1.0, at::kFloat), norm = at::full({4}, 2.0, at::kFloat), last = at::full({16}, 3.0, at::kFloat);
  ParameterStore store;

  explicit ThreeParameters(const std::array<Shard, 2>& shards = {})
      : store({{.name = "first", .tensor = first}, {.name = "norm", .tensor = norm, .decays = false}, {.name = "last", .tensor = last}},
              at::kDouble, at::kCPU, /*with_optimizer_state=*/true, shards) {}

  /// Gradients by hand: 36 of first, 72 of norm (a sum over four products), 12 of last, each times `scale`.
  at::Tensor loss(double scale) const { return scale * 6 * ((first * norm.repeat({4})) * last).sum(); }
};

std::vector<std::pair<int64_t, int64_t>> ranges_of(const std::vector<GradientBucket>& buckets) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto& bucket : buckets) ranges.emplace_back(bucket.range.begin, bucket.range.end);
  return ranges;
}

TEST(GradientBuckets, FollowEachOtherAsBackwardCompletesThem) {
  ThreeParameters model;
  const auto cut_at = [&](int64_t size) { return ranges_of(cut_into_buckets(model.store.groups(), {true, true}, size)); };
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  // `last` is complete first, then `norm`, then `first`; [8, 20) has elements of `first` too.
  EXPECT_EQ(cut_at(12), (Ranges{{20, 32}, {32, 40}, {8, 20}, {0, 8}}));
  EXPECT_EQ(cut_at(16), (Ranges{{16, 32}, {32, 40}, {0, 16}}));
  EXPECT_EQ(cut_at(0), (Ranges{{32, 40}, {0, 32}}));
  // One element each: the four elements of the gap behind norm are left out.
  EXPECT_EQ(cut_at(1).size(), 36U);
  EXPECT_TRUE(cut_into_buckets(model.store.groups(), {false, true}, 12).empty());
}

TEST(ParameterGroup, IsCutIntoPartsOfWholeCacheLines) {
  ThreeParameters model;
  const auto part = [&](int64_t index, int64_t count) {
    const auto range = model.store.dense().part({index, count});
    return std::vector{range.begin, range.end};
  };
  using Range = std::vector<int64_t>;
  EXPECT_EQ(part(0, 2), (Range{0, 16}));  // 5 lines of 8 elements: 2 and 3
  EXPECT_EQ(part(1, 2), (Range{16, 40}));
  EXPECT_EQ(part(0, 8), (Range{0, 0}));
  EXPECT_EQ(part(7, 8), (Range{32, 40}));
}

TEST(ParameterStore, HoldsWholeWeightsAndAPartOfTheState) {
  ThreeParameters model({Shard{1, 2}, Shard{}});
  auto& group = model.store.dense();
  EXPECT_EQ(group.weights.numel(), 40);
  EXPECT_EQ(group.gradients.numel(), 40);
  for (const auto& buffer : {group.master, group.exp_avg, group.exp_avg_sq}) EXPECT_EQ(buffer.numel(), 24);
  EXPECT_TRUE(at::equal(group.master, at::cat({at::full({16}, 3.0), at::full({4}, 2.0), at::zeros({4})}).to(at::kDouble)));
  group.master.fill_(7.0);  // the weights themselves, not a copy
  EXPECT_EQ(model.last[0].item<double>(), 7.0);
  EXPECT_EQ(model.first[0].item<double>(), 1.0);
}

/// Counts the reductions that have been started.
class CountingCommunicator : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    ++num_started;
    return inner_->all_reduce_sum(tensor);
  }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    ++num_started;
    return inner_->reduce_scatter_sum(tensor, parts);
  }

  int64_t num_started = 0;
};

at::Tensor whole_gradient(double first, double norm, double last) {
  return at::cat({at::full({16}, first), at::full({16}, last), at::full({4}, norm), at::zeros({4})}).to(at::kDouble);
}

TEST(GradientSync, SumsOverRanksAndStartsInBackwardOnlyWithOverlap) {
  for (const bool overlap : {false, true}) {
    run_ranks_as_threads(3, [&](const CommunicatorPtr& ranks) {
      const auto world = std::make_shared<CountingCommunicator>(ranks);
      const ProcessMesh mesh(world, /*expert_degree=*/1);
      ThreeParameters model;
      GradientSync sync(model.store, mesh, {.bucket_size = 12, .overlap = overlap});
      const double scale = 1.0 + static_cast<double>(ranks->rank());  // 1 + 2 + 3 = 6
      model.loss(scale).backward();                                   // the first of two micro-batches
      EXPECT_EQ(world->num_started, 0);
      sync.expect_last_backward();
      model.loss(scale).backward();
      EXPECT_EQ(world->num_started, overlap ? 4 : 0);
      sync.finish();
      EXPECT_EQ(world->num_started, 4);
      EXPECT_TRUE(at::equal(model.store.dense().gradients, whole_gradient(12 * 36, 12 * 72, 12 * 12)));
    });
  }
}

TEST(GradientSync, ReducesWhatBackwardHasNotReachedWhenItFinishes) {
  run_ranks_as_threads(2, [](const CommunicatorPtr& ranks) {
    const auto world = std::make_shared<CountingCommunicator>(ranks);
    const ProcessMesh mesh(world, /*expert_degree=*/1);
    ThreeParameters model;
    GradientSync sync(model.store, mesh, {.bucket_size = 16, .overlap = true});
    sync.expect_last_backward();
    (model.first * model.last).sum().backward();  // norm is not used, so that no bucket behind its own may start
    EXPECT_EQ(world->num_started, 1);
    sync.finish();
    EXPECT_TRUE(at::equal(model.store.dense().gradients, whole_gradient(2 * 3, 0, 2 * 1)));
  });
}

TEST(GradientSync, LeavesEveryRankTheSumsOfItsPartOnly) {
  for (const bool overlap : {false, true}) {
    run_ranks_as_threads(2, [&](const CommunicatorPtr& world) {
      const ProcessMesh mesh(world, /*expert_degree=*/1);
      ThreeParameters model({Shard{world->rank(), 2}, Shard{world->rank(), 2}});
      GradientSync sync(model.store, mesh, {.bucket_size = 12, .overlap = overlap});
      sync.expect_last_backward();
      model.loss(1.0 + static_cast<double>(world->rank())).backward();
      sync.finish();
      const auto& group = model.store.dense();
      const auto mine = ParameterGroup::of_whole(group.gradients, group.state);
      EXPECT_TRUE(at::equal(mine, ParameterGroup::of_whole(whole_gradient(3 * 36, 3 * 72, 3 * 12), group.state)));
    });
  }
}

TEST(GradientNorm, HasTheSameBitsInPartsAndWhole) {
  run_ranks_as_threads(4, [](const CommunicatorPtr& world) {
    const ProcessMesh mesh(world, /*expert_degree=*/2);
    std::vector<double> norms;
    for (const bool sharded : {false, true}) {
      const auto data = normal({1000}, 1), experts = normal({2, 333}, 2 + mesh.group("expert")->rank());
      const std::array<Shard, 2> shards = {Shard{world->rank(), 4}, Shard{mesh.group("expert_data")->rank(), 2}};
      ParameterStore store(
          {{.name = "dense", .tensor = at::zeros({1000})}, {.name = "experts", .tensor = at::zeros({2, 333}), .num_experts = 4}},
          at::kDouble, at::kCPU, true, sharded ? shards : std::array<Shard, 2>());
      ParameterGroup::view(store.dense().gradients, store.dense().slots[0]).copy_(data);
      ParameterGroup::view(store.experts().gradients, store.experts().slots[0]).copy_(experts);
      norms.push_back(gradient_norm(store, mesh));
      const double expected = std::sqrt(data.square().sum().item<double>() + normal({2, 333}, 2).square().sum().item<double>() +
                                        normal({2, 333}, 3).square().sum().item<double>());
      EXPECT_NEAR(norms.back(), expected, 1e-13 * expected);
    }
    EXPECT_EQ(norms[0], norms[1]);
  });
}

TEST(GradientNorm, IsNotFiniteOnAnyRankWhenOnePartIsNot) {
  run_ranks_as_threads(2, [](const CommunicatorPtr& world) {
    const ProcessMesh mesh(world, /*expert_degree=*/1);
    ThreeParameters model({Shard{world->rank(), 2}, Shard{world->rank(), 2}});
    if (world->rank() == 1) model.store.dense().gradients[39] = std::numeric_limits<double>::infinity();
    EXPECT_FALSE(std::isfinite(gradient_norm(model.store, mesh)));
  });
}

TEST(GatherWeights, BringsThePartsTogether) {
  run_ranks_as_threads(2, [](const CommunicatorPtr& world) {
    const ProcessMesh mesh(world, /*expert_degree=*/1);
    ThreeParameters model({Shard{world->rank(), 2}, Shard{world->rank(), 2}});
    model.store.dense().master.fill_(10.0 + static_cast<double>(world->rank()));
    gather_weights(model.store, mesh);
    EXPECT_TRUE(at::equal(model.store.dense().weights, at::cat({at::full({16}, 10.0), at::full({24}, 11.0)}).to(at::kDouble)));
  });
}

}  // namespace
}  // namespace switchyard
