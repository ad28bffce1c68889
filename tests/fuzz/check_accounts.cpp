#include "core/balance.h"
#include "tests/fuzz/compare_runs.h"

namespace switchyard {
namespace {

/// How many of these expert numbers there are of each; num_experts is nobody.
at::Tensor count(const at::Tensor& expert, int64_t num_experts) {
  return at::bincount(expert, {}, num_experts + 1).narrow(0, 0, num_experts).to(at::kDouble);
}

struct Account {
  const LayoutCase& layout;
  const LoggedRun& run;
  Findings& findings;

  void expect(const at::Tensor& a, const at::Tensor& b, const std::string& what, const std::string& where) const {
    if (!at::equal(a, b)) findings.fail("accounts", where + ": " + what);
  }

  /// One layer of one step: sums that the run reports against what its routers did.
  void check(const RoutingSums& sums, const at::Tensor& seen_GSC, const std::string& where) const {
    const auto& moe = *layout.model.moe;
    const RoutingColumns columns(moe);
    const auto seen_GS = seen_GSC.select(2, columns.seen());
    expect(seen_GS, at::ones_like(seen_GS), "a sample is routed by no rank, or by several", where);
    const auto real_UC = seen_GSC.flatten(0, 1).index({layout.mask_GS.flatten()});
    const auto choice = real_UC.narrow(1, columns.choice(), columns.choices).to(at::kLong).flatten();
    const auto kept = real_UC.narrow(1, columns.kept(), columns.choices).flatten().to(at::kBool);
    const auto kept_E = count(choice.index({kept}), moe.num_experts);
    if (moe.router == "gshard_top_2") {  // of the second choices that the log holds some are not made
      const auto first = real_UC.select(1, columns.choice()).to(at::kLong);
      expect(sums.first_choice_E(), count(first, moe.num_experts), "first choices are not what the routers chose", where);
      if ((sums.assigned_E() > count(choice, moe.num_experts)).any().item<bool>())
        findings.fail("accounts", where + ": more than was chosen");
    } else {
      expect(sums.assigned_E(), count(choice, moe.num_experts), "assigned is not what the routers chose", where);
      expect(sums.assigned_E(), kept_E + sums.dropped_E(), "assigned is not kept + dropped", where);
    }
    if (moe.router != "gshard_top_2" && moe.router != "expert_choice") {
      const auto expected = sums.tokens() * static_cast<double>(num_choices(moe));
      expect(sums.assigned_E().sum(), expected, "assigned is not tokens x choices", where);
    }
    if (moe.nested_experts > 0) {
      const auto inside_E = sums.nested_assigned_M().unflatten(0, {-1, moe.nested_experts}).sum(1);
      const auto rows_E = sums.assigned_E() - sums.dropped_E();
      expect(inside_E, rows_E * static_cast<double>(moe.nested_top_k), "the experts inside an expert got other rows than it", where);
    }
    expect(sums.tokens(), layout.mask_GS.sum().to(at::kDouble), "tokens is not the number of unmasked ones", where);
    expect(sums.non_finite(), at::zeros({}, at::kDouble), "a logit is not finite", where);
  }
};

void check_routing(const LayoutCase& layout, const LoggedRun& run, Findings& findings) {
  const auto layers = layout.model.moe_layers();
  const auto shape = sums_shapes(layout.model).front();
  const int64_t size = RoutingSums::size(shape);
  const Account account{layout, run, findings};
  for (size_t s = 0; s < run.trace.steps.size(); ++s) {
    const auto& values = run.trace.steps[s].routing;
    if (static_cast<int64_t>(values.size()) != size * static_cast<int64_t>(layers.size())) {
      return findings.fail("accounts", "not one set of sums a layer");
    }
    const auto packed = at::tensor(values, at::kDouble).view({-1, size});
    for (size_t l = 0; l < layers.size(); ++l) {
      account.check(RoutingSums(packed[static_cast<int64_t>(l)], shape), run.seen_NLGSC[static_cast<int64_t>(s)][layers[l]],
                    c10::str("step ", s + 1, ", block ", layers[l]));
    }
  }
}

}  // namespace

void check_accounts(const LayoutCase& layout, const LoggedRun& run, Findings& findings) {
  for (const auto& step : run.trace.steps) {
    if (!std::isfinite(step.loss) || !std::isfinite(step.grad_norm)) findings.fail("accounts", "a loss or norm is not finite");
  }
  findings.note("replicas", run.trace.replica_spread, 0.0, "ranks hold different values of what they share");
  if (layout.model.moe) check_routing(layout, run, findings);
}

}  // namespace switchyard
