#include "parallel/global_sums.h"

namespace switchyard {

std::vector<at::Tensor> global_sums(const std::vector<at::Tensor>& local, Communicator& ranks) {
  std::vector<at::Tensor> flat;
  std::vector<int64_t> sizes;
  for (const auto& tensor : local) {
    TORCH_CHECK(tensor.scalar_type() == at::kDouble, "global_sums: expected float64, got ", tensor.scalar_type());
    flat.push_back(tensor.detach().reshape({-1}));
    sizes.push_back(tensor.numel());
  }
  auto total = at::cat(flat);
  ranks.all_reduce_sum(total)->wait();
  auto parts = total.split_with_sizes(sizes);
  for (size_t i = 0; i < parts.size(); ++i) parts[i] = parts[i].view(local[i].sizes());
  return parts;
}

}  // namespace switchyard
