#include "training/phase_timer.h"

#include <thread>

#include <gtest/gtest.h>

namespace switchyard {
namespace {

class Listener : public PhaseObserver {
 public:
  void start_step(int64_t step) override { step_ = step; }
  void enter(Phase phase, int64_t layer) override { last_ = {phase, layer}; }
  int64_t step_ = 0;
  std::pair<Phase, int64_t> last_ = {Phase::kInit, -1};
};

TEST(PhaseTimer, AddsUpWhatAPhaseTakesAndPassesEverythingOn) {
  Listener listener;
  PhaseTimer timer(&listener);
  const auto pass = [](int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); };
  pass(20);  // before the step
  timer.start_step(7);
  timer.enter(Phase::kForward, -1);
  pass(3);
  timer.enter(Phase::kExperts, 2);
  EXPECT_EQ(listener.step_, 7);
  EXPECT_EQ(listener.last_, (std::pair<Phase, int64_t>{Phase::kExperts, 2}));
  timer.enter(Phase::kForward, -1);
  pass(3);
  const auto seconds = timer.end_step();
  EXPECT_GE(seconds.at("forward"), 0.006);
  EXPECT_GE(seconds.at("experts"), 0.0);
  EXPECT_FALSE(seconds.contains("dispatch"));
}

TEST(PhaseTimer, KeepsThePartsOfBackwardApart) {
  Listener listener;
  PhaseTimer timer(&listener);
  timer.start_step(1);
  timer.enter_backward(Phase::kExperts, 3);
  EXPECT_EQ(listener.last_, (std::pair<Phase, int64_t>{Phase::kBackward, 3})) << "who does not tell parts apart";
  timer.enter_backward(Phase::kRouter, 3);
  const auto seconds = timer.end_step();
  EXPECT_TRUE(seconds.contains("experts backward"));
  EXPECT_TRUE(seconds.contains("router backward"));
  EXPECT_FALSE(seconds.contains("experts"));
}

TEST(PhaseTimer, NeedsNobodyToTell) {
  PhaseTimer timer(nullptr);
  timer.start_step(1);
  timer.enter(Phase::kData, -1);
  EXPECT_TRUE(timer.end_step().contains("data"));
}

}  // namespace
}  // namespace switchyard
