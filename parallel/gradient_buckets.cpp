#include "parallel/gradient_buckets.h"

#include <algorithm>
#include <limits>

namespace switchyard {
namespace {

/// From the end, so that a smaller rest comes last.
void cut(std::vector<GradientBucket>& buckets, size_t group, const FlatRange& range, int64_t bucket_size) {
  const int64_t limit = bucket_size > 0 ? bucket_size : std::max<int64_t>(range.numel(), 1);
  for (int64_t end = range.end; end > range.begin; end -= limit) {
    buckets.push_back({group, {std::max(range.begin, end - limit), end}, {}});
  }
}

int64_t first_use(const GradientBucket& bucket, const ParameterGroup& group) {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const auto slot : bucket.slots) first = std::min(first, group.slots[slot].order);
  return first;
}

}  // namespace

std::vector<GradientBucket> cut_into_buckets(const std::array<ParameterGroup, 2>& groups, const std::array<bool, 2>& is_reduced,
                                             int64_t bucket_size) {
  std::vector<GradientBucket> buckets;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (!is_reduced[g]) continue;
    cut(buckets, g, {0, groups[g].decaying_numel}, bucket_size);
    cut(buckets, g, {groups[g].decaying_numel, groups[g].gradients.numel()}, bucket_size);
  }
  for (auto& bucket : buckets) {
    const auto& slots = groups[bucket.group].slots;
    for (size_t s = 0; s < slots.size(); ++s) {
      if (intersection(slots[s].range(), bucket.range).numel() > 0) bucket.slots.push_back(s);
    }
  }
  // A bucket that holds nothing but a gap is zero on every rank.
  std::erase_if(buckets, [](const GradientBucket& bucket) { return bucket.slots.empty(); });
  std::ranges::stable_sort(buckets, std::ranges::greater(),
                           [&](const GradientBucket& bucket) { return first_use(bucket, groups[bucket.group]); });
  return buckets;
}

}  // namespace switchyard
