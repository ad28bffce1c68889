// What a step's sums mean: the numbers of console lines and metrics.jsonl, by their standard names.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/phase_observer.h"
#include "training/training_step.h"

namespace switchyard {

/// Load and health of one MoE layer over a global batch.
struct LayerHealth {
  double load_imbalance = 0.0;     ///< max / mean of assigned
  double max_violation = 0.0;      ///< MaxVio = load_imbalance - 1 (Wang et al. 2024, arXiv:2408.15664)
  double load_variation = 0.0;     ///< standard deviation / mean of assigned
  int64_t dead_experts = 0;        ///< without a single assignment
  double dropped_share = 0.0;      ///< of assignments
  double lost_tokens = 0.0;        ///< tokens that lost every expert
  double dropped_gate_mass = 0.0;  ///< share of the gate weights that was dropped
  double router_entropy = 0.0;     ///< nats, mean over tokens
  double router_margin = 0.0;      ///< p(first) - p(second), mean over tokens
};
LayerHealth layer_health(const RoutingSums& sums);

struct StepReport {
  int64_t step = 0;
  StepResult result;
  double grad_norm = 0.0;  ///< before clipping
  double learning_rate = 0.0;
  double tokens_per_second = 0.0;
  double mfu = 0.0;
  std::map<std::string, double> phase_seconds = {};  ///< of this rank's step (training/phase_timer.h)
  bool skipped = false;                              ///< a non-finite step that the policy let pass without an update

  double load_imbalance() const;  ///< the largest over MoE layers; 1 for a dense model
  double dropped_share() const;   ///< of all assignments
};

/// One record of metrics.jsonl. moe_layers: the layer numbers behind the rows of expert_counts.
nlohmann::json to_json(const StepReport& report, const std::vector<int64_t>& moe_layers);

/// The terms are those that are part of the loss:
/// "step 20/1000  loss 2.31  ce 2.28  aux 1.02  z 3.1  drop 0.4%  imbalance 1.21  lr 1.0e-03  grad 0.9  18.2k tok/s  mfu 41%  eta 3m02s"
std::string console_line(const StepReport& report, int64_t total_steps, double eta_seconds);

}  // namespace switchyard
