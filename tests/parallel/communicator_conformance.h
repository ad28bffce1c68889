// What every communicator must do, written once and run over one rank, ranks as threads and MPI processes.
// Values depend on rank and position, so that a wrong order cannot pass.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/communicator.h"
#include "tests/tensors.h"

namespace switchyard::conformance {

/// [100 rank + 0, 100 rank + 1, ...]
inline at::Tensor numbered(int64_t rank, int64_t count, at::ScalarType dtype = at::kDouble) {
  return (at::arange(count) + 100 * rank).to(dtype);
}

inline void sums_over_ranks(Communicator& group) {
  const int64_t n = group.size();
  for (const auto dtype : {at::kDouble, at::kFloat, at::kLong}) {
    auto tensor = numbered(group.rank(), 7, dtype);
    group.all_reduce_sum(tensor)->wait();
    // Sum over r of (100 r + i) = 50 n (n - 1) + n i
    expect_equal(tensor, (at::arange(7) * n + 50 * n * (n - 1)).to(dtype));
  }
}

/// 256 + n ones: in bf16, 256 + 1 = 256, so a sum that rounds on the way stays there.
inline void sums_bfloat16_in_fp32(Communicator& group) {
  auto tensor = at::full({5}, group.rank() == 0 ? 256.0 : 1.0, at::kBFloat16);
  group.all_reduce_sum(tensor)->wait();
  expect_equal(tensor, at::full({5}, 255.0 + static_cast<double>(group.size())).to(at::kBFloat16));
}

inline void sums_in_the_order_of_ranks_to_the_bit(Communicator& group) {
  for (const int64_t numel : {1, 3, 1000, 300001}) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(17 + group.rank());
    const auto mine = at::randn({numel}, generator, at::TensorOptions().dtype(at::kFloat));
    const auto everybodys = group.all_gather(mine);
    auto expected = everybodys[0].clone();
    for (int64_t rank = 1; rank < group.size(); ++rank) expected.add_(everybodys[rank]);
    auto sum = mine.clone();
    group.all_reduce_sum(sum)->wait();
    expect_equal(sum, expected);
  }
}

/// Parts of 2, 3, 4, ... elements: a rank's own holds the sum, the others what they held. Then all hold all sums.
inline void sums_by_parts_and_gathers_them(Communicator& group) {
  std::vector<int64_t> parts;
  int64_t count = 0, first = 0;
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    if (rank == group.rank()) first = count;
    parts.push_back(rank + 2);
    count += rank + 2;
  }
  const auto before = numbered(group.rank(), count, at::kFloat);
  auto whole = before.clone();
  group.all_reduce_sum(whole)->wait();
  auto tensor = before.clone(), expected = before.clone();
  const int64_t mine = parts[group.rank()];
  expected.narrow(0, first, mine).copy_(whole.narrow(0, first, mine));
  group.reduce_scatter_sum(tensor, parts)->wait();
  expect_equal(tensor, expected);
  group.all_gather_parts(tensor, parts)->wait();
  expect_equal(tensor, whole);
  EXPECT_THROW(group.reduce_scatter_sum(tensor, {}), c10::Error);
  EXPECT_THROW(group.all_gather_parts(tensor.view({1, -1}), parts), c10::Error);
}

inline void takes_the_maximum(Communicator& group) {
  const double last = static_cast<double>(group.size() - 1);
  auto tensor = at::tensor({static_cast<double>(group.rank()), -static_cast<double>(group.rank())}, at::kDouble);
  group.all_reduce_max(tensor);
  expect_equal(tensor, at::tensor({last, 0.0}, at::kDouble));
  auto with_nan = at::full({1}, group.rank() == 0 ? std::nan("") : 1.0, at::kDouble);
  group.all_reduce_max(with_nan);
  EXPECT_TRUE(with_nan.isnan().all().item<bool>());
}

/// Rank s sends s + r + 1 rows to rank r; row i of them holds [s, r, i].
inline at::Tensor letter(int64_t sender, int64_t receiver) {
  const int64_t rows = sender + receiver + 1;
  return at::stack({at::full({rows}, sender), at::full({rows}, receiver), at::arange(rows)}, 1).to(at::kFloat);
}

inline void exchanges_uneven_rows_in_the_order_of_ranks(Communicator& group) {
  std::vector<at::Tensor> sent, expected;
  std::vector<int64_t> rows;
  for (int64_t peer = 0; peer < group.size(); ++peer) {
    sent.push_back(letter(group.rank(), peer));
    expected.push_back(letter(peer, group.rank()));
    rows.push_back(group.rank() + peer + 1);
  }
  auto received = at::full_like(at::cat(expected), -1.0);
  auto work = group.all_to_all(at::cat(sent), rows, received, rows);
  work->wait();
  expect_equal(received, at::cat(expected));
}

/// Only the last rank receives: rank s sends it s rows, so rank 0 sends nothing at all.
inline void exchanges_where_most_have_nothing(Communicator& group) {
  const int64_t last = group.size() - 1;
  std::vector<int64_t> send_rows(group.size(), 0), receive_rows(group.size(), 0);
  send_rows[last] = group.rank();
  std::vector<at::Tensor> expected = {at::empty({0, 2}, at::kLong)};
  if (group.rank() == last) {
    for (int64_t sender = 0; sender <= last; ++sender) {
      receive_rows[sender] = sender;
      expected.push_back(at::full({sender, 2}, sender, at::kLong));
    }
  }
  const auto expected_rows = at::cat(expected);
  auto received = at::full_like(expected_rows, -1);
  group.all_to_all(at::full({group.rank(), 2}, group.rank(), at::kLong), send_rows, received, receive_rows)->wait();
  expect_equal(received, expected_rows);
}

/// Two exchanges and a sum under way, waited for in the reverse order.
inline void keeps_several_exchanges_apart(Communicator& group) {
  const std::vector<int64_t> one_each(group.size(), 1);
  auto first = at::empty({group.size()}, at::kDouble), second = first.clone(), sum = at::ones({3}, at::kDouble);
  auto first_work = group.all_to_all(numbered(group.rank(), group.size()), one_each, first, one_each);
  auto sum_work = group.all_reduce_sum(sum);
  auto second_work = group.all_to_all(-numbered(group.rank(), group.size()), one_each, second, one_each);
  second_work->wait();
  sum_work->wait();
  first_work->wait();
  const auto expected = (at::arange(group.size()) * 100 + group.rank()).to(at::kDouble);
  expect_equal(first, expected);
  expect_equal(second, -expected);
  expect_equal(sum, at::full({3}, static_cast<double>(group.size()), at::kDouble));
}

inline void finishes_an_exchange_that_is_let_go(Communicator& group) {
  auto tensor = at::ones({2}, at::kDouble);
  static_cast<void>(group.all_reduce_sum(tensor));
  expect_equal(tensor, at::full({2}, static_cast<double>(group.size()), at::kDouble));
}

inline void gathers_in_the_order_of_ranks(Communicator& group) {
  const auto gathered = group.all_gather(numbered(group.rank(), 6, at::kLong).view({2, 3}));
  std::vector<at::Tensor> expected;
  for (int64_t rank = 0; rank < group.size(); ++rank) expected.push_back(numbered(rank, 6, at::kLong).view({2, 3}));
  expect_equal(gathered, at::stack(expected));
}

inline void broadcasts_from_any_root(Communicator& group) {
  for (int64_t root = 0; root < group.size(); ++root) {
    auto tensor = numbered(group.rank(), 4, at::kBFloat16);
    group.broadcast(tensor, root);
    expect_equal(tensor, numbered(root, 4, at::kBFloat16));
  }
}

inline void splits_by_color_and_keeps_the_order(Communicator& group) {
  const auto part = group.split(group.rank() % 2);
  EXPECT_EQ(part->rank(), group.rank() / 2);
  EXPECT_EQ(part->size(), (group.size() + 1 - group.rank() % 2) / 2);
  const auto members = part->all_gather(at::full({1}, group.rank(), at::kLong)).view(-1);
  expect_equal(members, at::arange(group.rank() % 2, group.size(), 2));
  group.barrier();
  const auto alone = part->split(part->rank());
  EXPECT_EQ(alone->size(), 1);
}

inline void refuses_counts_that_do_not_fit(Communicator& group) {
  const std::vector<int64_t> one_each(group.size(), 1);
  auto rows = at::zeros({group.size() + 1, 2}), received = at::zeros({group.size(), 2});
  EXPECT_THROW(group.all_to_all(rows, one_each, received, one_each), c10::Error);
  EXPECT_THROW(group.all_to_all(received, {}, received, one_each), c10::Error);
  EXPECT_THROW(group.all_to_all(received.to(at::kLong), one_each, received, one_each), c10::Error);
  EXPECT_THROW(group.all_reduce_sum(at::zeros({4, 4}).t()), c10::Error);
  EXPECT_THROW(group.broadcast(received, group.size()), c10::Error);
}

struct Check {
  const char* name;
  void (*run)(Communicator&);
};

inline constexpr Check kChecks[] = {
    {"SumsOverRanks", sums_over_ranks},
    {"SumsBfloat16InFp32", sums_bfloat16_in_fp32},
    {"SumsInTheOrderOfRanksToTheBit", sums_in_the_order_of_ranks_to_the_bit},
    {"SumsByPartsAndGathersThem", sums_by_parts_and_gathers_them},
    {"TakesTheMaximum", takes_the_maximum},
    {"ExchangesUnevenRowsInTheOrderOfRanks", exchanges_uneven_rows_in_the_order_of_ranks},
    {"ExchangesWhereMostHaveNothing", exchanges_where_most_have_nothing},
    {"KeepsSeveralExchangesApart", keeps_several_exchanges_apart},
    {"FinishesAnExchangeThatIsLetGo", finishes_an_exchange_that_is_let_go},
    {"GathersInTheOrderOfRanks", gathers_in_the_order_of_ranks},
    {"BroadcastsFromAnyRoot", broadcasts_from_any_root},
    {"SplitsByColorAndKeepsTheOrder", splits_by_color_and_keeps_the_order},
    {"RefusesCountsThatDoNotFit", refuses_counts_that_do_not_fit},
};

}  // namespace switchyard::conformance
