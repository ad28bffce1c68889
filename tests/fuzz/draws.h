// Random draws that are the same on every machine: std::mt19937_64 is defined by the standard, its distributions are not.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

namespace switchyard {

class Draws {
 public:
  /// A case is a function of (seed, index) and of nothing else.
  Draws(uint64_t seed, uint64_t index) : generator_(mixed(mixed(seed) + index)) {}

  /// In [0, count).
  int64_t below(int64_t count) { return static_cast<int64_t>(generator_() % static_cast<uint64_t>(count)); }
  /// In [least, most].
  int64_t between(int64_t least, int64_t most) { return least + below(most - least + 1); }
  /// True in `percent` of 100 cases.
  bool percent(int64_t percent) { return below(100) < percent; }

  template <class Value>
  Value one_of(std::initializer_list<Value> values) {
    return *(values.begin() + below(static_cast<int64_t>(values.size())));
  }
  template <class Value>
  Value one_of(const std::vector<Value>& values) {
    return values[static_cast<size_t>(below(static_cast<int64_t>(values.size())))];
  }

 private:
  /// SplitMix64 (Steele, Lea, Flood 2014): neighbouring numbers give unrelated ones.
  static uint64_t mixed(uint64_t x) {
    x += 0x9E3779B97F4A7C15;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
  }

  std::mt19937_64 generator_;
};

}  // namespace switchyard
