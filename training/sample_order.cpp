#include "training/sample_order.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/hash.h"
#include "training/token_data.h"

namespace switchyard {
namespace {

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit.
uint64_t mix_bits(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

/// A permutation of [0, 4^half_bits): a balanced Feistel network.
uint64_t feistel(uint64_t value, int half_bits, uint64_t key) {
  constexpr uint64_t kNumRounds = 6;
  constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15ULL;
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (uint64_t round = 1; round <= kNumRounds; ++round) {
    // The key goes through the mixer before the half does: a plain XOR would make keys with equal low bits alike.
    const uint64_t next = left ^ (mix_bits(mix_bits(key + round * kGoldenRatio) ^ right) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits) | right;
}

void check_weights(const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const double weight : weights) {
    if (!(weight > 0) || !std::isfinite(total)) {
      throw UserError("data.sources: weight = " + std::to_string(weight) +
                      " is not a positive number; leave the source out or give it a weight");
    }
    if (weight / total * SourceInterleave::kMaxSlots < 1) {
      throw UserError("data.sources: weight = " + std::to_string(weight) + " is less than 1/" +
                      std::to_string(SourceInterleave::kMaxSlots) + " of the sum of the weights; leave the source out or raise its weight");
    }
  }
}

/// Slots a source in a cycle of `num_slots`, where all of them come out as whole numbers.
std::optional<std::vector<int64_t>> exact_slots(const std::vector<double>& weights, double total, int64_t num_slots) {
  constexpr double kRounding = 1e-9;  // of decimal fractions such as 0.1, grown by num_slots
  std::vector<int64_t> slots;
  for (const double weight : weights) {
    const double wanted = weight / total * static_cast<double>(num_slots);
    if (wanted < 0.5 || std::abs(wanted - std::round(wanted)) > kRounding) return std::nullopt;
    slots.push_back(std::llround(wanted));
  }
  return slots;
}

/// Whole numbers that sum up to `num_slots`: rounded down, the slots left over go to the largest remainders.
std::vector<int64_t> rounded_slots(const std::vector<double>& weights, double total, int64_t num_slots) {
  std::vector<int64_t> slots;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double wanted = weight / total * static_cast<double>(num_slots);
    slots.push_back(static_cast<int64_t>(wanted));
    remainders.push_back(wanted - std::floor(wanted));
  }
  for (int64_t left = num_slots - std::accumulate(slots.begin(), slots.end(), int64_t{0}); left > 0; --left) {
    const auto largest = std::max_element(remainders.begin(), remainders.end());
    ++slots[largest - remainders.begin()];
    *largest = -1;
  }
  return slots;
}

std::vector<int64_t> slots_by_weight(const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (auto num_slots = static_cast<int64_t>(weights.size()); num_slots <= SourceInterleave::kMaxSlots; ++num_slots) {
    if (auto slots = exact_slots(weights, total, num_slots)) return *slots;
  }
  return rounded_slots(weights, total, SourceInterleave::kMaxSlots);
}

/// The source that is furthest behind its share after `slot` slots; the first of equals. In whole numbers, so that ties are exact.
int64_t largest_deficit(const std::vector<int64_t>& slots, const std::vector<int64_t>& taken, int64_t slot, int64_t num_slots) {
  int64_t best = 0;
  int64_t best_deficit = INT64_MIN;
  for (size_t source = 0; source < slots.size(); ++source) {
    const int64_t deficit = slots[source] * (slot + 1) - taken[source] * num_slots;
    if (deficit <= best_deficit) continue;
    best = static_cast<int64_t>(source);
    best_deficit = deficit;
  }
  return best;
}

}  // namespace

int64_t permute_index(int64_t index, int64_t size, uint64_t key) {
  TORCH_CHECK(0 <= index && index < size, "permute_index: index ", index, " is not in [0, ", size, ")");
  const int half_bits = std::max(1, (static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1))) + 1) / 2);
  auto value = static_cast<uint64_t>(index);
  // Cycle walking: the network permutes a power of four below 4 * size, so this ends after 4 rounds on average.
  do {
    value = feistel(value, half_bits, key);
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

SourceInterleave::SourceInterleave(const std::vector<double>& weights) {
  check_weights(weights);
  slots_of_source_ = slots_by_weight(weights);
  const int64_t num_slots = std::accumulate(slots_of_source_.begin(), slots_of_source_.end(), int64_t{0});
  std::vector<int64_t> taken(weights.size(), 0);
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    const int64_t source = largest_deficit(slots_of_source_, taken, slot, num_slots);
    source_of_slot_.push_back(source);
    ordinal_of_slot_.push_back(taken[source]++);
  }
  TORCH_INTERNAL_ASSERT(taken == slots_of_source_);
}

SampleDraw SourceInterleave::at(int64_t sample) const {
  TORCH_CHECK(sample >= 0, "SourceInterleave: sample ", sample, " is negative");
  const int64_t cycle = sample / num_slots();
  const int64_t slot = sample % num_slots();
  const int64_t source = source_of_slot_[slot];
  return {source, cycle * slots_of_source_[source] + ordinal_of_slot_[slot]};
}

double SourceInterleave::share(int64_t source) const {
  return static_cast<double>(slots_of_source_[source]) / static_cast<double>(num_slots());
}

int64_t window_of_sample(int64_t ordinal, int64_t num_windows, uint64_t seed, const std::string& source_name) {
  const std::array<uint64_t, 2> seed_and_epoch = {seed, static_cast<uint64_t>(ordinal / num_windows)};
  const uint64_t key = xxh3(seed_and_epoch.data(), sizeof(seed_and_epoch), xxh3(source_name));
  return permute_index(ordinal % num_windows, num_windows, key);
}

}  // namespace switchyard
