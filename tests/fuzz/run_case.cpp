#include "tests/fuzz/run_case.h"

#include <algorithm>

namespace switchyard {
namespace {

/// Whether what failed between two fp32 runs is no more than such runs are worth. `own`: fp32 against fp64 on one rank.
bool is_rounding(const Findings& between, const Findings& own) {
  constexpr double kDraws = 10.0;  // both are single draws of the same errors
  return !own.mismatches.empty() && std::ranges::all_of(between.mismatches, [&](const Mismatch& mismatch) {
    const auto worth = own.largest.find(mismatch.quantity);  // choices are in none, counts are equal: neither passes
    return worth != own.largest.end() && between.largest.at(mismatch.quantity) <= kDraws * worth->second;
  });
}

}  // namespace

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
    return compare_replayed(layout, reference, findings);
  }
  const auto run = run_layout(layout);
  check_accounts(layout, run, findings);
  compare_initial_weights(reference, run, findings);
  if (layout.dtype == at::kDouble) compare_runs(layout, reference, run, layout.steps, kFp64Bounds, findings);
}

void CaseRunner::compare_replayed(const LayoutCase& layout, const LoggedRun& reference, Findings& findings) const {
  const auto& choices = reference.seen_NLGSC;
  const auto run = run_layout(layout, choices);
  check_accounts(layout, run, findings);
  Findings single;
  compare_runs(layout, reference, run, layout.steps, kFp32ReplayBounds, single);
  if (single.mismatches.empty()) return findings.append(single);
  // Adam turns a gradient that is nothing but rounding into a step of full size. Whether it is that: in double precision the same job and
  // layout must agree, and the one-rank run in single precision must itself be off, about as far.
  auto wide = layout;
  wide.dtype = at::kDouble;
  const auto wide_reference = run_here(reference_of(wide), make_single_communicator(), choices);
  compare_runs(wide, wide_reference, run_layout(wide, choices), wide.steps, kFp64Bounds, findings);
  Findings rounding;
  compare_runs(layout, wide_reference, reference, layout.steps, kFp32ReplayBounds, rounding);
  if (!is_rounding(single, rounding)) return findings.append(single);
  findings.rounding.push_back(single.mismatches.front().quantity + ": " + single.mismatches.front().text +
                              "; one rank against double precision: " + rounding.mismatches.front().text);
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
