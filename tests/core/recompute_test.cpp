#include "core/recompute.h"

#include <set>

#include <gtest/gtest.h>

#include "core/routing/routing_trace.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

TokenContext training_context() {
  TokenContext context;
  context.training = true;
  return context;
}

RoutingStatistics statistics_of(const at::Tensor& probability_BE, const at::Tensor& z_B) {
  const auto constant = at::full({2}, 7.0, at::kDouble);
  return {.assigned_BE = constant.clone(),
          .dropped_BE = constant.clone(),
          .first_choice_BE = constant.clone(),
          .group_visits_BG = constant.clone(),
          .tokens_B = constant.clone(),
          .probability_BE = probability_BE,
          .load_BE = constant.clone(),
          .group_load_BG = constant.clone(),
          .nested_assigned_BM = constant.clone(),
          .nested_probability_BM = constant.clone(),
          .z_B = z_B,
          .domain_B = constant.clone(),
          .lost_tokens_B = constant.clone(),
          .gate_mass_B = constant.clone(),
          .dropped_gate_mass_B = constant.clone(),
          .entropy_B = constant.clone(),
          .margin_B = constant.clone(),
          .non_finite_B = constant.clone()};
}

TEST(Recomputation, RunsThePassOnceForwardAndOnceInBackward) {
  int passes = 0;
  const Pass pass = [&](const at::Tensor& x, const TokenContext&) -> PassOutput {
    ++passes;
    return {x * x, {}};
  };
  auto x = at::tensor({3.0, 4.0}, at::kDouble).requires_grad_(true);
  const auto output = run_and_recompute(pass, x, training_context());
  EXPECT_EQ(passes, 1);
  EXPECT_TRUE(at::equal(output.y_BSD, at::tensor({9.0, 16.0}, at::kDouble)));
  output.y_BSD.sum().backward();
  EXPECT_EQ(passes, 2);
  EXPECT_TRUE(at::equal(x.grad(), at::tensor({6.0, 8.0}, at::kDouble)));
}

TEST(Recomputation, IsJustThePassOutsideTrainingAndWithoutGradients) {
  int passes = 0;
  const Pass pass = [&](const at::Tensor& x, const TokenContext& context) -> PassOutput {
    ++passes;
    EXPECT_EQ(context.routing_trace, nullptr);
    return {x * x, {}};
  };
  auto x = at::ones({2}, at::kDouble).requires_grad_(true);
  run_and_recompute(pass, x, TokenContext()).y_BSD.sum().backward();
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(run_and_recompute(pass, x, training_context()).y_BSD.requires_grad());
  EXPECT_EQ(passes, 2);
}

TEST(Recomputation, DecidesInTheSecondPassAsInTheFirst) {
  // The choice is a running number: made again, it would be another one.
  int64_t made = 0;
  const Pass pass = [&](const at::Tensor& x, const TokenContext& context) -> PassOutput {
    const auto choice = traced_choices(context, [&] { return at::scalar_tensor(++made, at::kLong); });
    const auto kept = traced_kept(context, [&] { return at::scalar_tensor(10 * ++made, at::kLong); });
    return {x * (choice + kept), {}};
  };
  auto x = at::ones({1}, at::kDouble).requires_grad_(true);
  for (const double expected : {1.0 + 20.0, 3.0 + 40.0}) {
    x.mutable_grad().reset();
    const auto y = run_and_recompute(pass, x, training_context()).y_BSD;
    EXPECT_EQ(y.item<double>(), expected);
    y.backward();
    EXPECT_EQ(x.grad().item<double>(), expected);
  }
  EXPECT_EQ(made, 4);
}

TEST(Recomputation, AsksTheTraceAroundItOnce) {
  struct Given : RoutingTrace {
    at::Tensor choices(const TokenContext&, const std::function<at::Tensor()>&) override { return at::scalar_tensor(++asked, at::kLong); }
    int64_t asked = 0;
  };
  const auto given = std::make_shared<Given>();
  auto context = training_context();
  context.routing_trace = given;
  const Pass pass = [](const at::Tensor& x, const TokenContext& at_pass) -> PassOutput {
    return {x * traced_choices(at_pass, [] { return at::scalar_tensor(100, at::kLong); }), {}};
  };
  auto x = at::ones({1}, at::kDouble).requires_grad_(true);
  run_and_recompute(pass, x, context).y_BSD.backward();
  EXPECT_EQ(given->asked, 1);
  EXPECT_EQ(x.grad().item<double>(), 1.0);
}

TEST(Recomputation, CarriesTheGradientsOfTheStatisticsAndLeavesTheCountsConstant) {
  // d(y + 2 p + 3 z)/dx = 1 + 2 * 2x + 3 * 3 at x = 5
  const Pass pass = [](const at::Tensor& x, const TokenContext&) -> PassOutput { return {x + 0, {statistics_of(x * x, 3 * x)}}; };
  auto x = at::full({1}, 5.0, at::kDouble).requires_grad_(true);
  const auto output = run_and_recompute(pass, x, training_context());
  const auto& s = output.statistics.at(0);
  EXPECT_EQ(s.probability_BE.item<double>(), 25.0);
  for (const auto& counts : {s.assigned_BE, s.dropped_BE, s.tokens_B, s.lost_tokens_B, s.gate_mass_B, s.dropped_gate_mass_B, s.entropy_B,
                             s.margin_B, s.non_finite_B}) {
    EXPECT_FALSE(counts.requires_grad());
    EXPECT_EQ(counts[1].item<double>(), 7.0);
  }
  (output.y_BSD + 2 * s.probability_BE + 3 * s.z_B).sum().backward();
  EXPECT_EQ(x.grad().item<double>(), 1.0 + 20.0 + 9.0);
}

TEST(Recomputation, GivesParametersTheirGradientsWhereTheInputNeedsNone) {
  auto weight = at::full({1}, 2.0, at::kDouble).requires_grad_(true);
  const Pass pass = [&](const at::Tensor& x, const TokenContext&) -> PassOutput { return {x * weight, {}}; };
  run_and_recompute(pass, at::full({1}, 3.0, at::kDouble), training_context()).y_BSD.backward();
  EXPECT_EQ(weight.grad().item<double>(), 3.0);
}

/// How many nodes of each name the graph behind `tensor` has.
std::map<std::string, int64_t> nodes_behind(const at::Tensor& tensor) {
  std::map<std::string, int64_t> counts;
  std::set<const torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> open = {tensor.grad_fn().get()};
  while (!open.empty()) {
    auto* node = open.back();
    open.pop_back();
    if (!node || !seen.insert(node).second) continue;
    ++counts[node->name().find("RunAndRecompute") != std::string::npos ? "recomputed" : "kept"];
    for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return counts;
}

TEST(Recomputation, KeepsOneNodeABlock) {
  const auto config = tiny_config();
  const auto graph_of = [&](Recompute recompute) {
    Transformer model(config, local_dispatchers(config), ExecutionConfig{.recompute = recompute, .overlap_shared_expert = true});
    initialize_parameters(model->parameters_by_name(), config, 7);
    return nodes_behind(model->forward(tiny_context(2, 8, config.vocab_size)).hidden_BSD);
  };
  const auto none = graph_of(Recompute::kNone), moe = graph_of(Recompute::kMoe), block = graph_of(Recompute::kBlock);
  EXPECT_FALSE(none.contains("recomputed"));
  EXPECT_EQ(moe.at("recomputed"), 2);
  EXPECT_EQ(block.at("recomputed"), 2);
  EXPECT_LT(moe.at("kept"), none.at("kept"));
  EXPECT_LT(block.at("kept"), 20);  // embedding and last norm
}

}  // namespace
}  // namespace switchyard
