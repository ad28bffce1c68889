#include "training/sample_order.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "training/token_data.h"

namespace switchyard {
namespace {

std::vector<int64_t> permutation(int64_t size, uint64_t key) {
  std::vector<int64_t> images;
  for (int64_t index = 0; index < size; ++index) images.push_back(permute_index(index, size, key));
  return images;
}

std::vector<int64_t> sources_of(const SourceInterleave& interleave, int64_t count) {
  std::vector<int64_t> sources;
  for (int64_t sample = 0; sample < count; ++sample) sources.push_back(interleave.at(sample).source);
  return sources;
}

class PermuteIndex : public ::testing::TestWithParam<int64_t> {};

TEST_P(PermuteIndex, ReachesEveryIndexOnce) {
  std::vector<int64_t> expected(GetParam());
  std::iota(expected.begin(), expected.end(), 0);
  for (uint64_t key = 0; key < 20; ++key) {
    auto images = permutation(GetParam(), key);
    std::sort(images.begin(), images.end());
    EXPECT_EQ(images, expected) << "key " << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, PermuteIndex, ::testing::Values(1, 2, 3, 4, 5, 10, 16, 17, 1000));

TEST(PermuteIndexOrder, DependsOnTheKeyAndMovesMostIndices) {
  const auto one = permutation(1000, 1);
  const auto other = permutation(1000, 2);
  int64_t same_in_both = 0;
  int64_t in_place = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    same_in_both += one[i] == other[i];
    in_place += one[i] == i;
  }
  EXPECT_LT(same_in_both, 10);  // 1 expected of random permutations
  EXPECT_LT(in_place, 10);
}

TEST(PermuteIndexOrder, IsTheSameOnEveryMachine) {
  // Calculated apart from this code, with whole numbers in Python. A change here changes the data order of every run that is resumed.
  EXPECT_EQ(permutation(10, 1234), (std::vector<int64_t>{4, 2, 6, 9, 0, 1, 7, 5, 3, 8}));
}

TEST(PermuteIndexOrder, PutsAnIndexEverywhereEquallyOftenOverTheKeys) {
  constexpr int64_t kSize = 10;
  constexpr int64_t kNumKeys = 10000;
  for (int64_t index = 0; index < kSize; ++index) {
    std::vector<int64_t> hits(kSize, 0);
    for (int64_t key = 0; key < kNumKeys; ++key) ++hits[permute_index(index, kSize, key)];
    // 1000 expected with a standard deviation of 30.
    for (int64_t place = 0; place < kSize; ++place) EXPECT_NEAR(hits[place], 1000, 160) << index << " to " << place;
  }
}

TEST(PermuteIndexOrder, WorksForSizesBeyondThirtyTwoBits) {
  const int64_t size = (int64_t{1} << 40) + 7;
  std::set<int64_t> images;
  for (int64_t index = size - 1000; index < size; ++index) images.insert(permute_index(index, size, 5));
  EXPECT_EQ(images.size(), 1000U);
  EXPECT_GE(*images.begin(), 0);
  EXPECT_LT(*images.rbegin(), size);
}

TEST(PermuteIndexOrder, RefusesAnIndexOutsideItsSize) {
  EXPECT_ANY_THROW(permute_index(3, 3, 0));
  EXPECT_ANY_THROW(permute_index(-1, 3, 0));
  EXPECT_ANY_THROW(permute_index(0, 0, 0));
}

TEST(SourceInterleave, SpreadsWeightsThreeToOneEvenly) {
  const SourceInterleave interleave({3, 1});
  EXPECT_EQ(interleave.num_slots(), 4);
  // Share behind after each slot: 3/4 : 1/4, then 2/4 : 2/4 (the first of equals), then 1/4 : 3/4.
  EXPECT_EQ(sources_of(interleave, 8), (std::vector<int64_t>{0, 0, 1, 0, 0, 0, 1, 0}));
}

TEST(SourceInterleave, NumbersTheSamplesOfASourceWithoutGaps) {
  const SourceInterleave interleave({0.5, 0.3, 0.2});
  EXPECT_EQ(interleave.num_slots(), 10);
  std::map<int64_t, int64_t> next;
  for (int64_t sample = 0; sample < 95; ++sample) {
    const SampleDraw draw = interleave.at(sample);
    EXPECT_EQ(draw.ordinal, next[draw.source]++) << "sample " << sample;
  }
}

TEST(SourceInterleave, TakesEqualWeightsInTurn) {
  EXPECT_EQ(sources_of(SourceInterleave({0.25, 0.25, 0.25, 0.25}), 6), (std::vector<int64_t>{0, 1, 2, 3, 0, 1}));
}

TEST(SourceInterleave, HoldsThirdsExactly) {
  EXPECT_EQ(SourceInterleave({2, 1}).num_slots(), 3);
  EXPECT_DOUBLE_EQ(SourceInterleave({2, 1}).share(0), 2.0 / 3.0);
}

TEST(SourceInterleave, RoundsOtherWeightsToOneSlotInSixtyFiveThousand) {
  const SourceInterleave interleave({std::sqrt(2.0), 1.0});
  EXPECT_EQ(interleave.num_slots(), SourceInterleave::kMaxSlots);
  EXPECT_NEAR(interleave.share(0), std::sqrt(2.0) / (1 + std::sqrt(2.0)), 1.0 / 65536);
  EXPECT_DOUBLE_EQ(interleave.share(0) + interleave.share(1), 1.0);
}

TEST(SourceInterleave, RefusesWeightsThatWouldNeverBeDrawn) {
  EXPECT_THROW(SourceInterleave({1, 0}), UserError);
  EXPECT_THROW(SourceInterleave({1, -1}), UserError);
  EXPECT_THROW(SourceInterleave({1, 1e-6}), UserError);
  EXPECT_THROW(SourceInterleave({1, std::nan("")}), UserError);
}

TEST(WindowOfSample, VisitsEveryWindowOnceAnEpochInAnotherOrder) {
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t ordinal = 0; ordinal < 150; ++ordinal) epochs[ordinal / 50].push_back(window_of_sample(ordinal, 50, 1234, "kjv"));
  for (const auto& epoch : epochs) EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 50U);
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(WindowOfSample, DependsOnTheSeedAndTheSource) {
  const auto order = [](uint64_t seed, const std::string& name) {
    std::vector<int64_t> windows;
    for (int64_t ordinal = 0; ordinal < 50; ++ordinal) windows.push_back(window_of_sample(ordinal, 50, seed, name));
    return windows;
  };
  EXPECT_NE(order(1, "kjv"), order(2, "kjv"));
  EXPECT_NE(order(1, "kjv"), order(1, "cpp"));
}

}  // namespace
}  // namespace switchyard
