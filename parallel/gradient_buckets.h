// Into which pieces the flat gradient buffers are cut for their reduction, and in which order these are reduced.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/parameter_store.h"

namespace switchyard {

struct GradientBucket {
  size_t group = 0;           ///< of ParameterStore::groups()
  FlatRange range;            ///< of the group's flat buffers
  std::vector<size_t> slots;  ///< parameters that have elements in it
};

/// Cuts what decays and what does not, of the groups that `is_reduced` names, into ranges of at most bucket_size elements; 0 = no limit. In
/// the order in which backward completes them: last the bucket with the parameter that forward uses first. Depends on nothing but the
/// model's shape and its arguments, so that every rank that holds the same groups gets the same list.
std::vector<GradientBucket> cut_into_buckets(const std::array<ParameterGroup, 2>& groups, const std::array<bool, 2>& is_reduced,
                                             int64_t bucket_size);

}  // namespace switchyard
