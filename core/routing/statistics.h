// The sums over a routing that balancing terms, accounting and metrics are made of.
#pragma once

#include <vector>

#include "core/routing/routing_rule.h"

namespace switchyard {

/// Sums of one layer and micro-batch. `before`: as the router decided; `after`: with drops applied. B sequences of S tokens.
RoutingStatistics collect_statistics(const at::Tensor& logits_TE, const RoutingDecision& before, const Routing& after,
                                     const TokenContext& context, int64_t num_sequences);

/// Sums over sequences, micro-batches and ranks: one layer's RoutingStatistics added up, as one vector that is easy to reduce. float64.
/// Columns: assigned [E], dropped [E], probability [E], then the scalars below.
class RoutingSums {
 public:
  static constexpr int64_t kNumScalars = 8;
  static int64_t size(int64_t num_experts) { return 3 * num_experts + kNumScalars; }

  RoutingSums(at::Tensor packed, int64_t num_experts) : packed_(std::move(packed)), num_experts_(num_experts) {}
  /// Adds up the sequences. Differentiable where the statistics are.
  explicit RoutingSums(const RoutingStatistics& statistics);
  /// Keeps the sequences apart: packed() is [B, n] and every sum below has a leading dimension B.
  static RoutingSums by_sequence(const RoutingStatistics& statistics);

  const at::Tensor& packed() const { return packed_; }
  int64_t num_experts() const { return num_experts_; }
  at::Tensor assigned_E() const { return packed_.narrow(-1, 0, num_experts_); }
  at::Tensor dropped_E() const { return packed_.narrow(-1, num_experts_, num_experts_); }
  at::Tensor probability_E() const { return packed_.narrow(-1, 2 * num_experts_, num_experts_); }
  at::Tensor tokens() const { return scalar(0); }
  at::Tensor z() const { return scalar(1); }
  at::Tensor lost_tokens() const { return scalar(2); }
  at::Tensor gate_mass() const { return scalar(3); }
  at::Tensor dropped_gate_mass() const { return scalar(4); }
  at::Tensor entropy() const { return scalar(5); }
  at::Tensor margin() const { return scalar(6); }
  at::Tensor non_finite() const { return scalar(7); }

 private:
  at::Tensor scalar(int64_t i) const { return packed_.select(-1, 3 * num_experts_ + i); }

  at::Tensor packed_;
  int64_t num_experts_;
};

/// The layers' sums on the CPU, in one copy: one host synchronisation. No autograd.
std::vector<RoutingSums> to_host(const std::vector<RoutingSums>& layers);

}  // namespace switchyard
