// What a dispatcher over ranks must do: exactly, to the bit, what the dispatcher of one rank does with everybody's tokens.
// Written once, run over ranks as threads and MPI processes. T tokens of all ranks, t of this one.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/dispatcher.h"
#include "parallel/all_to_all_dispatcher.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard::conformance {

inline constexpr int64_t kNumExperts = 8;
inline constexpr int64_t kWidth = 5;

/// Who has how many tokens and where they go. expert(token, choice) = kNumExperts: nowhere.
struct Scenario {
  const char* name;
  std::vector<int64_t> tokens_by_rank;  ///< used cyclically
  int64_t num_choices;
  int64_t (*expert)(int64_t token, int64_t choice);
};

inline std::vector<Scenario> scenarios() {
  const auto spread = [](int64_t token, int64_t choice) { return (5 * token + 3 * choice) % kNumExperts; };
  return {
      {"TopOne", {6, 6, 6, 6}, 1, spread},
      {"TopThreeUnevenTokens", {7, 3, 12, 1}, 3, spread},
      {"ARankWithoutTokens", {9, 0, 4, 2}, 2, spread},
      {"NoTokensAnywhere", {0}, 2, spread},
      {"AllToOneExpert", {5, 20, 3, 8}, 1, [](int64_t, int64_t) { return int64_t{6}; }},
      {"AllToOneRank", {4, 4, 4, 4}, 2, [](int64_t token, int64_t choice) { return (token + choice) % 2; }},
      {"SomeNowhere",
       {8, 5, 6, 7},
       2,
       [](int64_t token, int64_t choice) { return (token + choice) % 3 == 0 ? kNumExperts : (3 * token + 5 * choice) % kNumExperts; }},
      {"AllNowhere", {3, 4, 5, 6}, 2, [](int64_t, int64_t) { return kNumExperts; }},
  };
}

/// Tokens [first, first + count) of the job. The list runs by choice, then token, as GShard's order does.
inline Routing make_routing(const Scenario& scenario, const at::Tensor& weight_TK, int64_t first, int64_t count) {
  std::vector<int64_t> token_N, expert_N, choice_N;
  for (int64_t choice = 0; choice < scenario.num_choices; ++choice) {
    for (int64_t token = 0; token < count; ++token) {
      token_N.push_back(token);
      choice_N.push_back(choice);
      expert_N.push_back(scenario.expert(first + token, choice));
    }
  }
  return {at::tensor(token_N, at::kLong),
          at::tensor(expert_N, at::kLong),
          weight_TK.t().flatten(),
          at::tensor(choice_N, at::kLong),
          kNumExperts,
          scenario.num_choices};
}

struct Result {
  at::Tensor rows_RD, y_TD, grad_x_TD, grad_weight_TK, grad_scale_eD;
  std::vector<int64_t> row_counts_e;
};

/// Each expert multiplies its rows by a vector of its own: no matrix product, whose bits could depend on the number of rows.
inline at::Tensor apply_experts(const ExpertRows& rows, const at::Tensor& scale_eD) {
  std::vector<at::Tensor> outputs;
  int64_t start = 0;
  for (size_t expert = 0; expert < rows.row_counts_e.size(); ++expert) {
    const int64_t count = padded_rows(rows.row_counts_e[expert]);
    outputs.push_back(rows.rows_RD.narrow(0, start, count) * scale_eD[expert]);
    start += count;
  }
  EXPECT_EQ(start, rows.rows_RD.size(0));
  return at::cat(outputs);
}

/// One MoE layer on tokens [first, first + count) and its backward from the gradient g_TD.
inline Result run_layer(TokenDispatcher& dispatcher, const Scenario& scenario, at::ScalarType dtype, int64_t num_tokens, int64_t first,
                        int64_t count) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const auto draw = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::TensorOptions().dtype(at::kDouble)).to(dtype); };
  auto x_TD = draw({num_tokens, kWidth}).narrow(0, first, count).clone().requires_grad_(true);
  auto weight_TK = draw({num_tokens, scenario.num_choices}).narrow(0, first, count).clone().requires_grad_(true);
  const auto g_TD = draw({num_tokens, kWidth}).narrow(0, first, count).clone();
  auto scale_eD =
      draw({kNumExperts, kWidth}).narrow(0, dispatcher.first_expert(), dispatcher.num_local_experts()).clone().requires_grad_(true);

  auto ticket = dispatcher.begin(x_TD, make_routing(scenario, weight_TK, first, count));
  const auto& starts = dispatcher.chunk_starts();
  std::vector<at::Tensor> rows_by_chunk;
  std::vector<int64_t> row_counts_e;
  for (size_t chunk = 0; chunk + 1 < starts.size(); ++chunk) {
    const auto rows = dispatcher.finish(*ticket);
    dispatcher.combine_begin(*ticket, apply_experts(rows, scale_eD.narrow(0, starts[chunk], starts[chunk + 1] - starts[chunk])));
    rows_by_chunk.push_back(rows.rows_RD);
    row_counts_e.insert(row_counts_e.end(), rows.row_counts_e.begin(), rows.row_counts_e.end());
  }
  const auto y_TD = dispatcher.combine_finish(*ticket);
  (y_TD * g_TD).sum().backward();
  return {at::cat(rows_by_chunk), y_TD, x_TD.grad(), weight_TK.grad(), scale_eD.grad(), row_counts_e};
}

struct Share {
  int64_t num_tokens = 0, first = 0, count = 0;
};

inline Share share_of(const Scenario& scenario, int64_t rank, int64_t num_ranks) {
  Share share;
  for (int64_t peer = 0; peer < num_ranks; ++peer) {
    const int64_t count = scenario.tokens_by_rank[peer % scenario.tokens_by_rank.size()];
    if (peer == rank) share.first = share.num_tokens, share.count = count;
    share.num_tokens += count;
  }
  return share;
}

inline void equals_the_local_dispatcher_to_the_bit(const CommunicatorPtr& group, const Scenario& scenario, at::ScalarType dtype,
                                                   int64_t num_chunks = 1) {
  const auto share = share_of(scenario, group->rank(), group->size());
  auto local = make_local_dispatcher(kNumExperts);
  auto spread = make_all_to_all_dispatcher(kNumExperts, group, num_chunks);
  const auto whole = run_layer(*local, scenario, dtype, share.num_tokens, 0, share.num_tokens);
  const auto mine = run_layer(*spread, scenario, dtype, share.num_tokens, share.first, share.count);

  int64_t first_row = 0, num_rows = 0;
  for (int64_t expert = 0; expert < kNumExperts; ++expert) {
    const int64_t count = padded_rows(whole.row_counts_e[expert]);
    if (expert < spread->first_expert()) first_row += count;
    if (expert >= spread->first_expert() && expert < spread->first_expert() + spread->num_local_experts()) num_rows += count;
  }
  expect_equal(mine.rows_RD, whole.rows_RD.narrow(0, first_row, num_rows));
  expect_equal(mine.y_TD, whole.y_TD.narrow(0, share.first, share.count));
  expect_equal(mine.grad_x_TD, whole.grad_x_TD.narrow(0, share.first, share.count));
  expect_equal(mine.grad_weight_TK, whole.grad_weight_TK.narrow(0, share.first, share.count));
  expect_equal(mine.grad_scale_eD, whole.grad_scale_eD.narrow(0, spread->first_expert(), spread->num_local_experts()));
}

/// With experts that change nothing: y_t = (sum of the token's weights) x_t.
inline void returns_the_weighted_tokens(const CommunicatorPtr& group, const Scenario& scenario) {
  const auto share = share_of(scenario, group->rank(), group->size());
  auto dispatcher = make_all_to_all_dispatcher(kNumExperts, group);
  const auto x_TD = numbered(group->rank(), share.count * kWidth).view({share.count, kWidth});
  const auto weight_TK = (at::arange(share.count * scenario.num_choices).to(at::kDouble) + 1).view({share.count, scenario.num_choices});
  const auto routing = make_routing(scenario, weight_TK, share.first, share.count);
  auto ticket = dispatcher->begin(x_TD, routing);
  dispatcher->combine_begin(*ticket, dispatcher->finish(*ticket).rows_RD);
  const auto y_TD = dispatcher->combine_finish(*ticket);
  const auto kept_TK = routing.expert_N.lt(kNumExperts).view({scenario.num_choices, share.count}).t();
  // Whole numbers: exact.
  expect_equal(y_TD, x_TD * (weight_TK * kept_TK).sum(1, /*keepdim=*/true));
}

/// <dispatch x, z> = <x, backward of dispatch z>, over all ranks.
inline void backward_of_dispatch_is_its_adjoint(const CommunicatorPtr& group, const Scenario& scenario) {
  const auto share = share_of(scenario, group->rank(), group->size());
  auto dispatcher = make_all_to_all_dispatcher(kNumExperts, group);
  auto x_TD = numbered(group->rank(), share.count * kWidth).view({share.count, kWidth}).requires_grad_(true);
  const auto weight_TK = at::ones({share.count, scenario.num_choices}, at::kDouble);
  auto ticket = dispatcher->begin(x_TD, make_routing(scenario, weight_TK, share.first, share.count));
  const auto rows_RD = dispatcher->finish(*ticket).rows_RD;
  const auto z_RD = numbered(group->rank() + 1, rows_RD.numel()).view(rows_RD.sizes());
  const auto there = (rows_RD * z_RD).sum();
  there.backward();
  auto both = at::stack({there.detach(), (x_TD.detach() * x_TD.grad()).sum()});
  group->all_reduce_sum(both)->wait();
  EXPECT_EQ(both[0].item<double>(), both[1].item<double>());  // whole numbers below 2^53: exact
}

}  // namespace switchyard::conformance
