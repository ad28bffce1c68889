// The sums over a routing that balancing terms, accounting and metrics are made of.
#pragma once

#include <vector>

#include "core/routing/routing_rule.h"

namespace switchyard {

/// float64 [num_keys]: how often each number below num_keys stands in key_N; num_keys itself may stand there and is not counted.
at::Tensor count_keys(const at::Tensor& key_N, int64_t num_keys);

/// Sums of one layer and micro-batch. `before`: as the router decided; `after`: with drops applied. B sequences.
RoutingStatistics collect_statistics(const RouterLogits& logits, const RoutingDecision& before, const Routing& after,
                                     const MoeConfig& config, const TokenContext& context);

/// How many columns a layer's sums have.
struct SumsShape {
  int64_t num_experts = 0;
  int64_t num_groups = 1;
  int64_t num_nested = 0;  ///< experts inside nested experts

  bool operator==(const SumsShape&) const = default;
};

/// Sums over sequences, micro-batches and ranks: one layer's RoutingStatistics added up, as one vector that is easy to reduce. float64.
/// Columns: five of [E], two of [G], two of [M], then the scalars, in the order of the functions below.
class RoutingSums {
 public:
  static constexpr int64_t kNumScalars = 9;
  static int64_t size(const SumsShape& shape) { return 5 * shape.num_experts + 2 * shape.num_groups + 2 * shape.num_nested + kNumScalars; }

  RoutingSums(at::Tensor packed, const SumsShape& shape) : packed_(std::move(packed)), shape_(shape) {}
  /// Adds up the sequences. Differentiable where the statistics are.
  explicit RoutingSums(const RoutingStatistics& statistics);
  /// Keeps the sequences apart: packed() is [B, n] and every sum below has a leading dimension B.
  static RoutingSums by_sequence(const RoutingStatistics& statistics);

  const at::Tensor& packed() const { return packed_; }
  const SumsShape& shape() const { return shape_; }
  int64_t num_experts() const { return shape_.num_experts; }
  int64_t num_groups() const { return shape_.num_groups; }

  at::Tensor assigned_E() const { return of_experts(0); }
  at::Tensor dropped_E() const { return of_experts(1); }
  at::Tensor first_choice_E() const { return of_experts(2); }
  at::Tensor probability_E() const { return of_experts(3); }
  at::Tensor load_E() const { return of_experts(4); }
  at::Tensor group_visits_G() const { return of_groups(0); }
  at::Tensor group_load_G() const { return of_groups(1); }
  at::Tensor nested_assigned_M() const { return of_nested(0); }
  at::Tensor nested_probability_M() const { return of_nested(1); }
  at::Tensor tokens() const { return scalar(0); }
  at::Tensor z() const { return scalar(1); }
  at::Tensor domain() const { return scalar(2); }
  at::Tensor lost_tokens() const { return scalar(3); }
  at::Tensor gate_mass() const { return scalar(4); }
  at::Tensor dropped_gate_mass() const { return scalar(5); }
  at::Tensor entropy() const { return scalar(6); }
  at::Tensor margin() const { return scalar(7); }
  at::Tensor non_finite() const { return scalar(8); }

 private:
  at::Tensor of_experts(int64_t i) const { return packed_.narrow(-1, i * shape_.num_experts, shape_.num_experts); }
  at::Tensor of_groups(int64_t i) const { return packed_.narrow(-1, 5 * shape_.num_experts + i * shape_.num_groups, shape_.num_groups); }
  at::Tensor of_nested(int64_t i) const {
    return packed_.narrow(-1, 5 * shape_.num_experts + 2 * shape_.num_groups + i * shape_.num_nested, shape_.num_nested);
  }
  at::Tensor scalar(int64_t i) const { return packed_.select(-1, size(shape_) - kNumScalars + i); }

  at::Tensor packed_;
  SumsShape shape_;
};

/// The layers' sums on the CPU, in one copy: one host synchronisation. No autograd.
std::vector<RoutingSums> to_host(const std::vector<RoutingSums>& layers);

}  // namespace switchyard
