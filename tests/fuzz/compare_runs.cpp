#include "tests/fuzz/compare_runs.h"

#include <array>

#include "core/balance.h"

namespace switchyard {
namespace {

// A term can be zero by mathematics: CV^2 at perfect balance; -log of a probability that is 1, whose rounding is that of 1.
constexpr double kTermFloor = 1e-4, kFp32TermFloor = 1e-2;

double difference(double a, double b, double floor = 0.0) {
  if (a == b) return 0.0;
  return std::abs(a - b) / std::max({std::abs(a), std::abs(b), floor});
}

/// The parts of a layer's packed RoutingSums, by what may differ in them.
struct SumsPart {
  const char* quantity;
  int64_t begin;
  int64_t end;
  bool exact;
};

std::array<SumsPart, 14> sums_parts(const SumsShape& shape) {
  const int64_t E = shape.num_experts, G = shape.num_groups, M = shape.num_nested;
  const int64_t nested = 5 * E + 2 * G, scalars = nested + 2 * M;
  return {{{"assigned", 0, E, true},
           {"dropped", E, 2 * E, true},
           {"first choices", 2 * E, 3 * E, true},
           {"probability sums", 3 * E, 4 * E, false},
           {"load sums", 4 * E, 5 * E, false},
           {"group visits", 5 * E, 5 * E + G, true},
           {"group load sums", 5 * E + G, nested, false},
           {"assigned inside experts", nested, nested + M, true},
           {"probability sums inside experts", nested + M, scalars, false},
           {"tokens", scalars, scalars + 1, true},
           {"z sums", scalars + 1, scalars + 2, false},
           {"domain sums", scalars + 2, scalars + 3, false},
           {"lost tokens", scalars + 3, scalars + 4, true},
           {"gate and entropy sums", scalars + 4, scalars + 8, false}}};
}

void compare_routing(const LayoutCase& layout, const StepTrace& a, const StepTrace& b, int64_t step, double bound, double floor,
                     Findings& findings) {
  if (!layout.model.moe) return;
  const auto shape = sums_shapes(layout.model).front();
  const int64_t size = RoutingSums::size(shape);
  if (a.routing.size() != b.routing.size()) return findings.fail("routing sums", "another number of them");
  for (size_t begin = 0; begin < a.routing.size(); begin += static_cast<size_t>(size)) {
    const double tokens = a.routing[begin + static_cast<size_t>(size - RoutingSums::kNumScalars)];
    for (const auto& part : sums_parts(shape)) {
      for (int64_t i = part.begin; i < part.end; ++i) {
        const size_t place = begin + static_cast<size_t>(i);
        findings.note(part.quantity, difference(a.routing[place], b.routing[place], part.exact ? 0.0 : floor * tokens),
                      part.exact ? 0.0 : bound,
                      c10::str("step ", step, ", MoE layer ", begin / static_cast<size_t>(size), ", column ", i, ", ", a.routing[place],
                               " against ", b.routing[place]));
      }
    }
  }
}

void compare_step(const LayoutCase& layout, const StepTrace& a, const StepTrace& b, int64_t step, const Bounds& bounds,
                  Findings& findings) {
  const double bound = step == 1 ? bounds.first_step : bounds.all_steps;
  const std::string suffix = step == 1 ? ", first step" : ", later steps";
  const auto where = [&](double x, double y) { return c10::str("step ", step, ", ", x, " against ", y); };
  findings.note("loss" + suffix, difference(a.loss, b.loss), bound, where(a.loss, b.loss));
  findings.note("cross entropy" + suffix, difference(a.cross_entropy, b.cross_entropy), bound, where(a.cross_entropy, b.cross_entropy));
  findings.note("gradient norm" + suffix, difference(a.grad_norm, b.grad_norm), bound, where(a.grad_norm, b.grad_norm));
  for (size_t t = 0; t < a.terms.size(); ++t) {
    findings.note("terms" + suffix, difference(a.terms[t], b.terms.at(t), layout.dtype == at::kDouble ? kTermFloor : kFp32TermFloor), bound,
                  where(a.terms[t], b.terms[t]));
  }
  compare_routing(layout, a, b, step, bound, bounds.floor, findings);
}

/// Adam divides by sqrt(exp_avg_sq) + eps: what is small beside eps moves nothing.
double scale_of(const std::string& name, const at::Tensor& tensor, const LayoutCase& job) {
  const double eps = job.optimizer.eps, root = std::sqrt(static_cast<double>(tensor.numel()));
  const double least = name.starts_with("model.")     ? job.optimizer.learning_rate * static_cast<double>(job.steps)
                       : name.starts_with("exp_avg.") ? eps
                                                      : eps * eps;
  return std::max(tensor.norm().item<double>(), least * root);
}

/// Elements whose gradients were rounding and nothing else in all steps of either run. Adam makes updates of them that differ.
at::Tensor is_rounding(const at::Tensor& exp_avg_sq, const at::Tensor& other_exp_avg_sq, const LayoutCase& job) {
  constexpr double kRounding = 1e-14;
  const auto mean_square =
      at::maximum(exp_avg_sq, other_exp_avg_sq) / (1.0 - std::pow(job.optimizer.beta2, static_cast<double>(job.steps)));
  return mean_square.gt(0.0).logical_and_(mean_square.lt(kRounding * kRounding));
}

/// Moments as they are; weights without the elements whose gradients are zero by mathematics, which are named.
void compare_tensors(const LayoutCase& job, const LayoutTrace& a, const LayoutTrace& b, double bound, Findings& findings) {
  if (a.tensors.size() != b.tensors.size()) findings.fail("tensors", "another number of them");
  for (const auto& [name, tensor] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other == b.tensors.end()) {
      findings.fail("tensors", name + " is missing");
      continue;
    }
    auto difference = tensor - other->second;
    const auto dot = name.find('.');
    const bool is_weight = name.starts_with("model.");
    const auto moment = "exp_avg_sq" + name.substr(dot);
    if (is_weight && job.dtype == at::kDouble && a.tensors.contains(moment)) {  // buffers have none
      const auto set_aside = is_rounding(a.tensors.at(moment), b.tensors.at(moment), job);
      if (set_aside.any().item<bool>()) findings.zero_gradients.insert(name.substr(dot + 1));
      difference = difference.masked_fill(set_aside, 0.0);
    }
    findings.note(is_weight ? "weights" : name.substr(0, dot), difference.norm().item<double>() / scale_of(name, tensor, job), bound, name);
  }
}

}  // namespace

void compare_initial_weights(const LoggedRun& reference, const LoggedRun& other, Findings& findings) {
  if (reference.trace.initial.size() != other.trace.initial.size()) findings.fail("initial weights", "another number of them");
  for (const auto& [name, tensor] : reference.trace.initial) {
    const auto found = other.trace.initial.find(name);
    const bool equal = found != other.trace.initial.end() && at::equal(tensor, found->second);
    findings.note("initial weights", equal ? 0.0 : kNotJudged, 0.0, name);
  }
}

void compare_runs(const LayoutCase& layout, const LoggedRun& reference, const LoggedRun& other, int64_t num_steps, const Bounds& bounds,
                  Findings& findings) {
  const auto flip = first_flip(layout, reference, other, num_steps, bounds.near_tie);
  if (flip && flip->is_near_tie) findings.near_ties.push_back(flip->describe());
  if (flip && !flip->is_near_tie) findings.fail("choices", flip->describe());
  const bool ends_early = flip && flip->is_near_tie;
  const int64_t last = ends_early ? flip->step - 1 : num_steps;
  for (int64_t step = 1; step <= last; ++step) {
    const auto index = static_cast<size_t>(step - 1);
    compare_step(layout, reference.trace.steps.at(index), other.trace.steps.at(index), step, bounds, findings);
  }
  if (!ends_early && num_steps == layout.steps) compare_tensors(layout, reference.trace, other.trace, bounds.tensors, findings);
}

void compare_bits(const LoggedRun& once, const LoggedRun& again, const std::string& quantity, Findings& findings) {
  const auto same = [&](const TensorMap& a, const TensorMap& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
             return x.first == y.first && at::equal(x.second, y.second);
           });
  };
  const double steps = largest_difference(once.trace, again.trace, once.trace.steps.size());
  const bool equal = same(once.trace.initial, again.trace.initial) && same(once.trace.tensors, again.trace.tensors) && steps == 0.0 &&
                     (!once.seen_NLGSC.defined() || at::equal(once.seen_NLGSC, again.seen_NLGSC));
  findings.note(quantity, equal ? 0.0 : kNotJudged, 0.0, "not equal to the bit");
}

}  // namespace switchyard
