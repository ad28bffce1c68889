#include "parallel/rank_order_sum.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor sum_in_rank_order(const at::Tensor& parts_SN) {
  const auto dtype = parts_SN.scalar_type();
  auto sum_N = parts_SN[0].to(dtype == at::kBFloat16 ? at::kFloat : dtype);
  for (int64_t rank = 1; rank < parts_SN.size(0); ++rank) sum_N.add_(parts_SN[rank]);
  return sum_N.to(dtype);
}

std::vector<int64_t> part_sizes(int64_t count, int64_t num_ranks) {
  std::vector<int64_t> parts;
  for (int64_t rank = 0; rank < num_ranks; ++rank) parts.push_back(count * (rank + 1) / num_ranks - count * rank / num_ranks);
  return parts;
}

}  // namespace switchyard
