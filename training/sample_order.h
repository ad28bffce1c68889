// Which window is sample n of a run: pure functions of n, the weights, the seed and the epoch. (permute_index stands in token_data.h.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// Sample n of the run is the `ordinal`-th sample (from 0) that is taken from source `source`.
struct SampleDraw {
  int64_t source;
  int64_t ordinal;
};

/// Sources in a fixed cycle, each as often as its weight says and as evenly as possible.
class SourceInterleave {
 public:
  static constexpr int64_t kMaxSlots = 65536;

  /// The cycle is the smallest of at most kMaxSlots slots that has the exact proportions; where there is none, kMaxSlots, each source's
  /// share within one slot of its weight. Errors: UserError for a weight that is not positive or below one slot.
  explicit SourceInterleave(const std::vector<double>& weights);

  SampleDraw at(int64_t sample) const;
  int64_t num_slots() const { return static_cast<int64_t>(source_of_slot_.size()); }
  /// The share of the samples that `source` really gets.
  double share(int64_t source) const;

 private:
  std::vector<int64_t> slots_of_source_;
  std::vector<int64_t> source_of_slot_;
  std::vector<int64_t> ordinal_of_slot_;  ///< earlier slots of the cycle with the same source
};

/// The window that the `ordinal`-th sample of a source is: every window once an epoch, in an order of its own each epoch.
int64_t window_of_sample(int64_t ordinal, int64_t num_windows, uint64_t seed, const std::string& source_name);

}  // namespace switchyard
