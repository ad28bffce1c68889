// The position that messages carry, and the watchdog over calls that do not return.
#include "parallel/progress.h"

#include <future>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "parallel/watchdog.h"

namespace switchyard {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Position, NamesStepLayerAndPhaseWhereThereAreSome) {
  Progress progress;
  EXPECT_EQ(at_position(progress.position(), "lost"), "lost");
  progress.enter(Phase::kInit, -1);
  EXPECT_EQ(at_position(progress.position(), "lost"), "init: lost");
  progress.start_step(7);
  progress.enter(Phase::kDispatch, 1);
  EXPECT_EQ(at_position(progress.position(), "lost"), "step 7, layer 1, dispatch: lost");
  progress.enter(Phase::kGradientSync, -1);
  EXPECT_EQ(to_string(progress.position()), "step 7, gradient sync");
}

TEST(BoundedCall, IsOverdueOnlyAfterItsLimitAndOnlyUntilItReturns) {
  Progress progress;
  progress.start_step(3);
  progress.enter(Phase::kCombine, 0);
  const auto now = Progress::Clock::now();
  EXPECT_FALSE(progress.overdue(now + seconds(1000)));  // computing may take as long as it likes
  {
    const BoundedCall call(&progress, seconds(10), "MPI_Finalize");
    EXPECT_FALSE(progress.overdue(now + seconds(9)));
    EXPECT_EQ(progress.overdue(now + milliseconds(12500)).value_or(""),
              "step 3, layer 0, combine: MPI_Finalize has not returned after 12 s");
  }
  EXPECT_FALSE(progress.overdue(now + seconds(1000)));
}

TEST(BoundedCall, TheInnermostOneCountsAndThenTheOuterOneAgain) {
  Progress progress;
  const auto now = Progress::Clock::now();
  const BoundedCall outer(&progress, seconds(5), "outer");
  {
    const BoundedCall inner(&progress, seconds(20), "inner");
    EXPECT_FALSE(progress.overdue(now + seconds(10)));
  }
  EXPECT_EQ(progress.overdue(now + seconds(10)).value_or("").substr(0, 5), "outer");
}

TEST(Watchdog, ReportsACallThatDoesNotReturn) {
  Progress progress;
  std::promise<std::string> message;
  const Watchdog watchdog(progress, [&](const std::string& text) { message.set_value(text); });
  const BoundedCall call(&progress, milliseconds(1), [] { return std::string("MPI_Init"); });
  EXPECT_EQ(message.get_future().get(), "MPI_Init has not returned after 0 s");
}

TEST(Watchdog, EndsAtOnceWhenItIsNotNeededAnyMore) {
  Progress progress;
  for (int i = 0; i < 100; ++i) {
    const Watchdog watchdog(progress, [](const std::string&) { FAIL(); });
  }
}

TEST(Watchdog, EndsTheProcessWithOneLineAndCodeOne) {
  EXPECT_EXIT(end_process("[rank 1/2] init: MPI_Init has not returned"), testing::ExitedWithCode(1), "^.rank 1/2. init: MPI_Init has not");
}

TEST(WatchdogDeathTest, AScreenThatTakesNothingDoesNotHoldTheEndUp) {
  EXPECT_EXIT(
      {
        int ends[2];
        if (::pipe(ends) != 0 || ::dup2(ends[1], STDERR_FILENO) < 0) std::abort();
        ::alarm(20);
        ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
        const std::string block(4096, 'x');
        while (::write(ends[1], block.data(), block.size()) > 0) continue;
        ::fcntl(ends[1], F_SETFL, 0);
        end_process("a line that nobody reads");
      },
      testing::ExitedWithCode(1), "");
}

}  // namespace
}  // namespace switchyard
