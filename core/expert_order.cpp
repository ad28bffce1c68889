#include "core/expert_order.h"

#include <ATen/ATen.h>

#include "core/dispatcher.h"

namespace switchyard {
namespace {

void check_lists(const Routing& routing) {
  const auto sizes = routing.expert_N.sizes();
  TORCH_CHECK(
      sizes.size() == 1 && routing.token_N.sizes() == sizes && routing.choice_N.sizes() == sizes && routing.weight_N.sizes() == sizes,
      "Routing: token, expert, weight and choice must be lists of one length, got ", routing.token_N.sizes(), ", ", sizes, ", ",
      routing.weight_N.sizes(), " and ", routing.choice_N.sizes());
}

/// Sum of everything before each element.
at::Tensor starts_of(const at::Tensor& lengths, int64_t dimension) {
  return lengths.cumsum(dimension) - lengths;
}

}  // namespace

SortedAssignments sort_by_expert(const Routing& routing, int64_t num_tokens) {
  check_lists(routing);
  // A rectangle is in the order of tokens and choices already, which a stable sort keeps.
  const auto key_N =
      routing.is_rectangle ? routing.expert_N : (routing.expert_N * num_tokens + routing.token_N) * routing.num_choices + routing.choice_N;
  const auto order_N = key_N.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  // A search in the sorted list: bincount would synchronise on a GPU, and a one-hot sum costs N x E.
  const auto experts = at::arange(routing.num_experts + 1, routing.expert_N.options());
  const auto first_E1 = at::searchsorted(routing.expert_N.index_select(0, order_N), experts);
  return {routing.token_N.index_select(0, order_N), routing.choice_N.index_select(0, order_N), first_E1.diff()};
}

at::Tensor rows_of_arrivals(const at::Tensor& counts_Se, int64_t num_arrivals) {
  const auto counts_e = counts_Se.sum(0);
  const auto padded_e = (counts_e + (kRowMultiple - 1)).floor_divide(kRowMultiple) * kRowMultiple;
  const auto row_of_block = (starts_of(padded_e, 0).unsqueeze(0) + starts_of(counts_Se, 0)).flatten();
  const auto counts = counts_Se.flatten();
  const auto arrival_A = at::arange(num_arrivals, counts.options());
  const auto block_A = at::searchsorted(counts.cumsum(0), arrival_A, /*out_int32=*/false, /*right=*/true);
  return arrival_A + (row_of_block - starts_of(counts, 0)).index_select(0, block_A);
}

std::vector<int64_t> chunk_starts_of(int64_t num_local_experts, int64_t num_chunks) {
  TORCH_CHECK(num_chunks >= 1 && num_chunks <= num_local_experts, "dispatch: ", num_local_experts, " experts a rank cannot go in ",
              num_chunks, " chunks");
  std::vector<int64_t> starts;
  for (int64_t chunk = 0; chunk <= num_chunks; ++chunk) starts.push_back(chunk * num_local_experts / num_chunks);
  return starts;
}

at::Tensor places_by_chunk(const std::vector<int64_t>& chunk_starts, int64_t num_ranks) {
  const int64_t num_local = chunk_starts.back(), num_experts = num_ranks * num_local;
  auto place_E1 = at::full({num_experts + 1}, num_experts, at::kLong);
  auto* places = place_E1.mutable_data_ptr<int64_t>();
  for (size_t c = 0; c + 1 < chunk_starts.size(); ++c) {
    const int64_t first = chunk_starts[c], count = chunk_starts[c + 1] - first;
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      for (int64_t e = 0; e < count; ++e) places[rank * num_local + first + e] = first * num_ranks + rank * count + e;
    }
  }
  return place_E1;
}

at::Tensor weights_by_token(const Routing& routing, int64_t num_tokens) {
  if (routing.is_rectangle) return routing.weight_N.view({num_tokens, routing.num_choices});
  const auto place_N = routing.token_N * routing.num_choices + routing.choice_N;
  return at::zeros({num_tokens * routing.num_choices}, routing.weight_N.options())
      .scatter(0, place_N, routing.weight_N)
      .view({num_tokens, routing.num_choices});
}

}  // namespace switchyard
