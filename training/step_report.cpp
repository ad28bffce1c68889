#include "training/step_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/host_copy.h"

namespace switchyard {
namespace {

using nlohmann::json;

double ratio(double part, double whole) {
  return whole > 0.0 ? part / whole : 0.0;
}

template <class Field>
json each_layer(const std::vector<LayerHealth>& layers, Field LayerHealth::*field) {
  json values = json::array();
  for (const auto& layer : layers) values.push_back(layer.*field);
  return values;
}

json routing_record(const std::vector<LayerHealth>& layers) {
  return {{"load_imbalance", each_layer(layers, &LayerHealth::load_imbalance)},
          {"max_violation", each_layer(layers, &LayerHealth::max_violation)},
          {"load_variation", each_layer(layers, &LayerHealth::load_variation)},
          {"dead_experts", each_layer(layers, &LayerHealth::dead_experts)},
          {"dropped_share", each_layer(layers, &LayerHealth::dropped_share)},
          {"lost_tokens", each_layer(layers, &LayerHealth::lost_tokens)},
          {"dropped_gate_mass", each_layer(layers, &LayerHealth::dropped_gate_mass)},
          {"router_entropy", each_layer(layers, &LayerHealth::router_entropy)},
          {"router_margin", each_layer(layers, &LayerHealth::router_margin)}};
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}m{:02}s", whole / 60, whole % 60);
}

}  // namespace

LayerHealth layer_health(const RoutingSums& sums) {
  const auto assigned_E = sums.assigned_E();
  const double assigned = assigned_E.sum().item<double>(), mean = assigned / static_cast<double>(sums.num_experts());
  const double tokens = sums.tokens().item<double>();
  LayerHealth health;
  health.load_imbalance = ratio(assigned_E.max().item<double>(), mean);
  health.max_violation = health.load_imbalance - 1.0;
  health.load_variation = ratio(assigned_E.std(/*unbiased=*/false).item<double>(), mean);
  health.dead_experts = (assigned_E == 0).sum().item<int64_t>();
  health.dropped_share = ratio(sums.dropped_E().sum().item<double>(), assigned);
  health.lost_tokens = sums.lost_tokens().item<double>();
  health.dropped_gate_mass = ratio(sums.dropped_gate_mass().item<double>(), sums.gate_mass().item<double>());
  health.router_entropy = ratio(sums.entropy().item<double>(), tokens);
  health.router_margin = ratio(sums.margin().item<double>(), tokens);
  return health;
}

double StepReport::load_imbalance() const {
  double largest = 1.0;
  for (const auto& layer : result.sums.layers) largest = std::max(largest, layer_health(layer).load_imbalance);
  return largest;
}

double StepReport::dropped_share() const {
  double dropped = 0.0, assigned = 0.0;
  for (const auto& layer : result.sums.layers) {
    dropped += layer.dropped_E().sum().item<double>();
    assigned += layer.assigned_E().sum().item<double>();
  }
  return ratio(dropped, assigned);
}

json to_json(const StepReport& report, const std::vector<int64_t>& moe_layers) {
  json record = {{"step", report.step},
                 {"loss", report.result.loss},
                 {"cross_entropy", report.result.sums.cross_entropy()},
                 {"aux_loss", 0.0},
                 {"z_loss", 0.0},
                 {"importance_loss", 0.0},
                 {"grad_norm", report.grad_norm},
                 {"learning_rate", report.learning_rate},
                 {"tokens_per_second", report.tokens_per_second},
                 {"mfu", report.mfu},
                 {"dropped_share", report.dropped_share()},
                 {"load_imbalance", report.load_imbalance()},
                 {"tokens", report.result.sums.num_targets},
                 {"skipped", report.skipped},
                 {"moe_layers", moe_layers},
                 {"expert_counts", json::array()},
                 {"dropped_counts", json::array()}};
  record["phase_seconds"] = report.phase_seconds;
  for (const auto& term : report.result.terms) {
    record[term.name] = term.mean;
    record[term.name + "_weighted"] = term.weighted;
  }
  std::vector<LayerHealth> layers;
  for (const auto& sums : report.result.sums.layers) {
    record["expert_counts"].push_back(whole_numbers(sums.assigned_E()));
    record["dropped_counts"].push_back(whole_numbers(sums.dropped_E()));
    if (sums.shape().num_nested > 0) record["nested_expert_counts"].push_back(whole_numbers(sums.nested_assigned_M()));
    layers.push_back(layer_health(sums));
  }
  if (!layers.empty()) record["routing"] = routing_record(layers);
  return record;
}

std::string console_line(const StepReport& report, int64_t total_steps, double eta_seconds) {
  auto line =
      fmt::format("step {}/{}  loss {:.4f}  ce {:.4f}", report.step, total_steps, report.result.loss, report.result.sums.cross_entropy());
  for (const auto& term : report.result.terms) {
    if (term.weighted != 0.0) line += fmt::format("  {} {:.3f}", term.name.substr(0, term.name.find('_')), term.mean);
  }
  if (!report.result.terms.empty()) {
    line += fmt::format("  drop {:.2f}%  imbalance {:.2f}", 100.0 * report.dropped_share(), report.load_imbalance());
  }
  return line + fmt::format("  lr {:.2e}  grad {:.3f}  {:.1f}k tok/s  mfu {:.0f}%  eta {}{}", report.learning_rate, report.grad_norm,
                            report.tokens_per_second / 1000.0, 100.0 * report.mfu, duration(eta_seconds),
                            report.skipped ? "  SKIPPED" : "");
}

}  // namespace switchyard
