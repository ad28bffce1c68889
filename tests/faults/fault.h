// Faults that strike a rank of a training run at a chosen phase.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/phase_observer.h"
#include "parallel/forwarding_communicator.h"

namespace switchyard {

enum class FaultKind { kKill, kException, kExit, kStop, kSkip };

struct Fault {
  FaultKind kind;
  Phase phase;
  int64_t rank;
  std::filesystem::path mark;  ///< a file that is written when the fault strikes; its time is when
};

std::optional<FaultKind> fault_kind_from(const std::string& name);
std::optional<Phase> phase_from(const std::string& name);

/// Whether this rank's next exchange is to be left out.
using SkipRequest = std::shared_ptr<std::atomic<bool>>;

/// Hands on what it is told, and strikes when `rank` enters the fault's phase for the first time in step 2 (init: at the start).
class FaultObserver : public PhaseObserver {
 public:
  FaultObserver(Fault fault, int64_t rank, PhaseObserver& next, SkipRequest skip)
      : fault_(std::move(fault)), rank_(rank), next_(next), skip_(std::move(skip)) {}

  void start_step(int64_t step) override;
  void enter(Phase phase, int64_t layer) override;

 private:
  void strike();

  Fault fault_;
  int64_t rank_;
  PhaseObserver& next_;
  SkipRequest skip_;
  int64_t step_ = 0;
  bool has_struck_ = false;
};

/// Leaves out one exchange when asked to, as a rank does that has taken another branch. What it should have received is zero.
CommunicatorPtr make_skipping_communicator(CommunicatorPtr inner, SkipRequest skip);

}  // namespace switchyard
