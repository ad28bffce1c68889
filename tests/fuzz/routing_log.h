// Everything that the routers of a run did, in memory, in one tensor that ranks can add up.
// N steps, L blocks, G global samples, S sequence length, K choices a token, E experts, C columns.
#pragma once

#include "core/routing/routing_rule.h"
#include "core/routing/routing_trace.h"
#include "tests/layout_run.h"

namespace switchyard {

/// Columns of what is kept of a token.
struct RoutingColumns {
  explicit RoutingColumns(const MoeConfig& moe) : choices(num_choices(moe)), experts(moe.num_experts) {}

  int64_t choices;
  int64_t experts;
  int64_t seen() const { return 0; }                 ///< 1 where a rank has routed the token
  int64_t choice() const { return 1; }               ///< K: experts, first choice first, before drops
  int64_t kept() const { return 1 + choices; }       ///< K: 1 where the assignment got a slot
  int64_t score() const { return 1 + 2 * choices; }  ///< E: what the choice was made by: logits, or what stands for them
  int64_t count() const { return 1 + 2 * choices + experts; }
};

/// One rank's log. Sums over ranks are the run's: a rank writes only the samples that it routes.
class RoutingLog : public RoutingTrace {
 public:
  /// `replay_NLGSC`: a run whose choices are taken over; undefined = none.
  explicit RoutingLog(const LayoutCase& job, at::Tensor replay_NLGSC = {});

  void see_scores(const TokenContext& context, const at::Tensor& score_TE) override;
  at::Tensor choices(const TokenContext& context, const std::function<at::Tensor()>& choose) override;
  at::Tensor kept(const TokenContext& context, const std::function<at::Tensor()>& decide) override;

  const at::Tensor& seen_NLGSC() const { return seen_NLGSC_; }

 private:
  void write(const TokenContext& context, int64_t column, const at::Tensor& value_Tc);

  RoutingColumns columns_;
  at::Tensor seen_NLGSC_;
  at::Tensor replay_NLGSC_;
};

/// A run and its routers; seen_NLGSC is undefined for a dense model.
struct LoggedRun {
  LayoutTrace trace;
  at::Tensor seen_NLGSC = {};
};

/// The job on world's ranks, whole on each of them. Collective.
LoggedRun run_here(const LayoutCase& job, const CommunicatorPtr& world, const at::Tensor& replay_NLGSC = {});

/// The job on job.ranks threads.
LoggedRun run_on_threads(const LayoutCase& job, const at::Tensor& replay_NLGSC = {});

}  // namespace switchyard
