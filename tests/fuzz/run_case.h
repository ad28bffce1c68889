// One case of the fuzz, from the draw to the verdict.
#pragma once

#include "tests/fuzz/compare_runs.h"
#include "tests/fuzz/draw_case.h"

namespace switchyard {

/// Runs the drawn layouts: with ranks as threads, or on `world`'s processes. Collective over `world`.
class CaseRunner {
 public:
  explicit CaseRunner(CommunicatorPtr world = nullptr) : world_(std::move(world)) {}

  /// The findings of every layout, in the order of drawn.layouts.
  std::vector<Findings> run(const FuzzCase& drawn) const;

 private:
  LoggedRun run_layout(const LayoutCase& layout, const at::Tensor& replay_NLGSC = {}) const;
  void compare(const LayoutCase& layout, const LoggedRun& reference, Findings& findings) const;
  /// All steps in fp32, with the reference's choices.
  void compare_replayed(const LayoutCase& layout, const LoggedRun& reference, Findings& findings) const;

  CommunicatorPtr world_;
};

}  // namespace switchyard
