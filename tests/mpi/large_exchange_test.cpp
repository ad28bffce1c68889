// More than 2^31 elements in one exchange. Disabled by default: with two ranks it takes 9 GB of memory and some minutes.
//   ctest --preset release -C large -R large_exchange
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/mpi/world.h"

namespace switchyard {
namespace {

constexpr int64_t kCount = (int64_t{1} << 31) + 1001;
constexpr int64_t kPeriod = 16777213;  // a prime: what arrives a power of two away from its place is noticed

/// The bytes that a rank's memory repeats.
at::Tensor pattern_of(int64_t rank) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(11 + rank);
  return at::randint(-100, 100, {kPeriod}, generator, at::TensorOptions().dtype(at::kChar));
}

template <class Visit>
void for_each_period(const at::Tensor& memory, Visit visit) {
  for (int64_t first = 0; first < memory.size(0); first += kPeriod)
    visit(memory.narrow(0, first, std::min(kPeriod, memory.size(0) - first)));
}

void repeat(const at::Tensor& pattern, const at::Tensor& memory) {
  for_each_period(memory, [&](const at::Tensor& part) { part.copy_(pattern.narrow(0, 0, part.size(0))); });
}

at::Tensor repeated(const at::Tensor& pattern, int64_t count) {
  auto memory = at::empty({count}, pattern.options());
  repeat(pattern, memory);
  return memory;
}

bool repeats(const at::Tensor& memory, const at::Tensor& pattern) {
  bool is_equal = true;
  for_each_period(memory, [&](const at::Tensor& part) { is_equal = is_equal && at::equal(part, pattern.narrow(0, 0, part.size(0))); });
  return is_equal;
}

at::Tensor sum_of_patterns(int64_t num_ranks) {
  auto sum = pattern_of(0);
  for (int64_t rank = 1; rank < num_ranks; ++rank) sum.add_(pattern_of(rank));  // int8 wraps, and so does the exchange's sum
  return sum;
}

/// Everything goes to the next rank, and five rows to oneself, which for the last rank stand behind 2^31 others.
TEST(LargeExchange, DISABLED_AllToAllMovesMoreThanIntCounts) {
  const auto world = test_world();
  const int64_t n = world->size(), rank = world->rank(), next = (rank + 1) % n, previous = (rank + n - 1) % n;
  std::vector<int64_t> send_rows(n, 0), receive_rows(n, 0);
  send_rows[next] = receive_rows[previous] = kCount;
  send_rows[rank] = receive_rows[rank] = 5;
  const auto own_place = [&](int64_t peer) { return peer < rank ? kCount : 0; };
  const auto place_of = [&](int64_t peer) { return peer < rank ? 0 : 5; };
  const auto own = at::full({5}, rank + 1, at::kChar);
  auto sent = at::empty({kCount + 5}, at::kChar);
  sent.narrow(0, own_place(next), 5).copy_(own);
  repeat(pattern_of(rank), sent.narrow(0, place_of(next), kCount));
  auto received = at::zeros_like(sent);
  world->all_to_all(sent, send_rows, received, receive_rows)->wait();
  EXPECT_TRUE(at::equal(received.narrow(0, own_place(previous), 5), own));
  EXPECT_TRUE(repeats(received.narrow(0, place_of(previous), kCount), pattern_of(previous)));
}

TEST(LargeExchange, DISABLED_AllReduceSumsMoreThanIntCounts) {
  auto tensor = repeated(pattern_of(test_world()->rank()), kCount);
  test_world()->all_reduce_sum(tensor)->wait();
  EXPECT_TRUE(repeats(tensor, sum_of_patterns(test_world()->size())));
}

/// One rank's part alone is longer than int counts.
TEST(LargeExchange, DISABLED_PartsMayBeLongerThanIntCounts) {
  const auto world = test_world();
  std::vector<int64_t> parts(world->size(), 3);
  parts[0] = kCount;
  auto tensor = repeated(pattern_of(world->rank()), kCount + 3 * (world->size() - 1));
  world->reduce_scatter_sum(tensor, parts)->wait();
  world->all_gather_parts(tensor, parts)->wait();
  EXPECT_TRUE(repeats(tensor, sum_of_patterns(world->size())));
}

TEST(LargeExchange, DISABLED_AllGatherBringsMoreThanIntCounts) {
  const auto world = test_world();
  const auto gathered = world->all_gather(repeated(pattern_of(world->rank()), kCount / world->size() + 7));
  for (int64_t rank = 0; rank < world->size(); ++rank) EXPECT_TRUE(repeats(gathered[rank], pattern_of(rank)));
}

TEST(LargeExchange, DISABLED_BroadcastMovesMoreThanIntCounts) {
  const auto world = test_world();
  const int64_t root = world->size() - 1;
  auto tensor = world->rank() == root ? repeated(pattern_of(root), kCount) : at::zeros({kCount}, at::kChar);
  world->broadcast(tensor, root);
  EXPECT_TRUE(repeats(tensor, pattern_of(root)));
}

}  // namespace
}  // namespace switchyard
