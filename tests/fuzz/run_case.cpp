#include "tests/fuzz/run_case.h"

namespace switchyard {

LoggedRun CaseRunner::run_layout(const LayoutCase& layout, const at::Tensor& replay_NLGSC) const {
  return world_ ? run_here(layout, world_, replay_NLGSC) : run_on_threads(layout, replay_NLGSC);
}

void CaseRunner::compare(const LayoutCase& layout, const LoggedRun& reference, Findings& findings) const {
  if (layout.dtype == at::kFloat) {
    auto first_step = layout;
    first_step.steps = 1;
    const auto free = run_layout(first_step);
    check_accounts(first_step, free, findings);
    compare_initial_weights(reference, free, findings);
    compare_runs(layout, reference, free, /*num_steps=*/1, kFp32Bounds, findings);
    if (!layout.model.moe) return;
    const auto replayed = run_layout(layout, reference.seen_NLGSC);
    check_accounts(layout, replayed, findings);
    return compare_runs(layout, reference, replayed, layout.steps, kFp32ReplayBounds, findings);
  }
  const auto run = run_layout(layout);
  check_accounts(layout, run, findings);
  compare_initial_weights(reference, run, findings);
  if (layout.dtype == at::kDouble) compare_runs(layout, reference, run, layout.steps, kFp64Bounds, findings);
}

std::vector<Findings> CaseRunner::run(const FuzzCase& drawn) const {
  std::map<int64_t, LoggedRun> references;  // by micro-batch size
  std::vector<Findings> all;
  for (const auto& layout : drawn.layouts) {
    const auto reference_job = reference_of(layout);
    auto& findings = all.emplace_back();
    auto [place, is_new] = references.try_emplace(reference_job.micro_batch_size);
    if (is_new) {
      place->second = run_here(reference_job, make_single_communicator());
      check_accounts(reference_job, place->second, findings);
    }
    compare(layout, place->second, findings);
  }
  if (drawn.repeats_last) {
    const auto& layout = drawn.layouts.back();
    const auto run = run_layout(layout);
    compare_bits(run, run_layout(layout), "the same layout twice", all.back());
    compare_bits(run, run_layout(plain_form_of(layout)), "the layout's plain form", all.back());
  }
  return all;
}

}  // namespace switchyard
