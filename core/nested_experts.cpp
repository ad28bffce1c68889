#include "core/nested_experts.h"

#include "core/dtypes.h"
#include "core/host_copy.h"
#include "core/routing/selection.h"
#include "core/routing/statistics.h"

namespace switchyard {
namespace {

/// The outer expert of each row; -1 for padding.
at::Tensor outer_experts(const ExpertRows& input) {
  auto outer_R = at::full({input.rows_RD.size(0)}, -1, at::kLong);
  int64_t first = 0;
  for (size_t i = 0; i < input.row_counts_e.size(); ++i) {
    outer_R.narrow(0, first, input.row_counts_e[i]).fill_(static_cast<int64_t>(i));
    first += padded_rows(input.row_counts_e[i]);
  }
  return to_device(outer_R, input.rows_RD.device());
}

/// Each row's probabilities over the n experts inside its own.
at::Tensor inner_probabilities(const ExpertRows& input, const at::Tensor& router_MD, int64_t n) {
  const auto x_RD = widen(input.rows_RD), router = widen(router_MD);
  std::vector<at::Tensor> logits;
  int64_t first = 0;
  for (size_t i = 0; i < input.row_counts_e.size(); ++i) {
    const int64_t rows = padded_rows(input.row_counts_e[i]);
    logits.push_back(at::linear(x_RD.narrow(0, first, rows), router.narrow(0, static_cast<int64_t>(i) * n, n)));
    first += rows;
  }
  return at::cat(logits).softmax(1);
}

/// Rows as tokens, inner experts numbered through; padding goes nowhere.
Routing inner_routing(const at::Tensor& probability_Rn, const at::Tensor& outer_R, int64_t num_inner, int64_t top_k) {
  const int64_t n = probability_Rn.size(1);
  const auto inner_RK = best_k(probability_Rn.detach(), top_k), outer_R1 = outer_R.unsqueeze(1);
  const auto chosen_RK = probability_Rn.gather(1, inner_RK);
  const auto weight_RK = top_k > 1 ? renormalized(chosen_RK) : chosen_RK;
  const auto expert_RK = (outer_R1 * n + inner_RK).where(outer_R1 >= 0, at::scalar_tensor(num_inner, outer_R.options()));
  return rectangular_routing(expert_RK, weight_RK, num_inner);
}

/// Probabilities added up by outer expert: [e n].
at::Tensor probability_sums(const at::Tensor& probability_Rn, const at::Tensor& outer_R, int64_t num_outer) {
  const auto place_R = outer_R.where(outer_R >= 0, at::scalar_tensor(num_outer, outer_R.options()));
  return at::zeros({num_outer + 1, probability_Rn.size(1)}, probability_Rn.options())
      .index_add(0, place_R, probability_Rn)
      .narrow(0, 0, num_outer)
      .flatten();
}

}  // namespace

NestedOutput apply_nested_experts(const ExpertRows& input, const ExpertWeights& weights, const MoeConfig& config,
                                  const std::function<at::Tensor(const ExpertRows& inner)>& dropout) {
  const int64_t n = config.nested_experts, num_outer = static_cast<int64_t>(input.row_counts_e.size());
  const auto outer_R = outer_experts(input);
  const auto probability_Rn = inner_probabilities(input, weights.nested_router_MD, n);
  const auto routing = inner_routing(probability_Rn, outer_R, num_outer * n, config.nested_top_k);
  const auto dispatcher = make_local_dispatcher(num_outer * n);
  const auto ticket = dispatcher->begin(input.rows_RD, routing, input.label_R);
  const auto inner = dispatcher->finish(*ticket);
  dispatcher->combine_begin(*ticket, apply_experts(inner, weights, config.activation, dropout(inner)));
  return {dispatcher->combine_finish(*ticket), count_keys(routing.expert_N, routing.num_experts),
          probability_sums(probability_Rn, outer_R, num_outer)};
}

}  // namespace switchyard
