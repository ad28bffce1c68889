// The watch over exchanges on a device, with exchanges that end, hang or fail when the test says so.
#include "parallel/exchange_watch.h"

#include <atomic>
#include <future>

#include <gtest/gtest.h>

#include "parallel/deadline.h"

namespace switchyard {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Switches {
  std::atomic<bool> is_done = false;
  std::atomic<bool> has_failed = false;
  std::atomic<int> num_looks = 0;
};

class StagedExchange : public DeviceExchange {
 public:
  explicit StagedExchange(Switches& switches) : switches_(switches) {}
  bool is_done() const override {
    ++switches_.num_looks;
    return switches_.is_done;
  }
  std::string fault() const override { return switches_.has_failed ? "peer 3 is gone" : ""; }
  std::string describe() const override { return "all_to_all on rank 1 of 4"; }

 private:
  Switches& switches_;
};

/// What the watch says first.
struct Verdict {
  void operator()(const std::string& message) { promise.set_value(message); }
  std::string wait() { return future.wait_for(seconds(20)) == std::future_status::ready ? future.get() : "nothing within 20 seconds"; }
  bool is_out() const { return future.wait_for(seconds(0)) == std::future_status::ready; }

  std::promise<std::string> promise;
  std::future<std::string> future = promise.get_future();
};

TEST(ExchangeWatch, NamesTheExchangeThatIsNotDoneInTime) {
  Verdict verdict;
  Switches done, stuck;
  done.is_done = true;
  ExchangeWatch watch(seconds(1), std::ref(verdict));
  watch.add(std::make_unique<StagedExchange>(done));
  watch.add(std::make_unique<StagedExchange>(stuck));
  EXPECT_EQ(
      verdict.wait(),
      "all_to_all on rank 1 of 4 is not done after 1 seconds (parallel.timeout_seconds): a rank of the group is gone, stuck or elsewhere");
}

TEST(ExchangeWatch, ReportsAFaultLongBeforeTheDeadline) {
  Verdict verdict;
  Switches failing;
  ExchangeWatch watch(seconds(600), std::ref(verdict));
  watch.add(std::make_unique<StagedExchange>(failing));
  while (failing.num_looks == 0) std::this_thread::yield();
  EXPECT_FALSE(verdict.is_out());
  failing.has_failed = true;
  EXPECT_EQ(verdict.wait(), "all_to_all on rank 1 of 4 has failed: peer 3 is gone");
}

TEST(ExchangeWatch, EndsOnlyWhenEveryExchangeIsDone) {
  Verdict verdict;
  Switches slow;
  auto watch = std::make_unique<ExchangeWatch>(seconds(600), std::ref(verdict));
  watch->add(std::make_unique<StagedExchange>(slow));
  auto end = std::async(std::launch::async, [&] { watch.reset(); });
  EXPECT_EQ(end.wait_for(milliseconds(300)), std::future_status::timeout);
  slow.is_done = true;
  EXPECT_EQ(end.wait_for(seconds(20)), std::future_status::ready);
  EXPECT_FALSE(verdict.is_out());
}

TEST(ExchangeWatch, WaitsForNothingOnceItIsToldToForget) {
  Verdict verdict;
  Switches stuck;
  auto watch = std::make_unique<ExchangeWatch>(seconds(600), std::ref(verdict));
  watch->add(std::make_unique<StagedExchange>(stuck));
  watch->forget();
  EXPECT_TRUE(ends_within(seconds(20), [&] { watch.reset(); }));
  EXPECT_FALSE(verdict.is_out());
}

/// Somebody who forgets an exchange closes what it stands on.
TEST(ExchangeWatch, LooksAtNothingOnceItHasForgotten) {
  struct SlowLook : DeviceExchange {
    explicit SlowLook(std::atomic<int>& stage) : stage(stage) {}
    bool is_done() const override {
      stage = 1;
      std::this_thread::sleep_for(milliseconds(300));
      stage = 2;
      return false;
    }
    std::string fault() const override { return ""; }
    std::string describe() const override { return "slow"; }
    std::atomic<int>& stage;
  };
  Verdict verdict;
  std::atomic<int> stage = 0;
  ExchangeWatch watch(seconds(600), std::ref(verdict));
  watch.add(std::make_unique<SlowLook>(stage));
  while (stage != 1) std::this_thread::yield();
  watch.forget();
  EXPECT_EQ(stage, 2);
}

TEST(Deadline, IsMetByWorkThatEndsAndByWorkThatThrows) {
  EXPECT_TRUE(ends_within(seconds(20), [] {}));
  EXPECT_TRUE(ends_within(seconds(20), [] { throw std::runtime_error("no"); }));
}

TEST(Deadline, LeavesWorkBehindThatDoesNotEnd) {
  const auto gate = std::make_shared<std::promise<void>>();
  EXPECT_FALSE(ends_within(milliseconds(50), [gate] { gate->get_future().wait(); }));
  gate->set_value();
}

}  // namespace
}  // namespace switchyard
