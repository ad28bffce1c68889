// Routing rules that a program adds to ours.
#include <gtest/gtest.h>

#include "core/routing/routing_checks.h"
#include "core/routing/selection.h"
#include "tests/routing_tools.h"

namespace switchyard {
namespace {

/// Token t takes expert t.
RoutingDecision decide_by_place(const RouterLogits& logits, const MoeConfig& config, const TokenContext& context) {
  const auto expert_T1 = at::arange(logits.num_tokens).remainder(config.num_experts).unsqueeze(1);
  return {rectangular_routing(expert_T1, equal_weights(expert_T1, logits.options), config, context), logits.expert_TE.softmax(-1)};
}

std::string refusal_of(const std::string& name, RoutingRule rule) {
  try {
    register_routing_rule(name, std::move(rule));
    return "";
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
}

TEST(OwnRule, IsARuleLikeOursOnceItIsRegistered) {
  auto config = experts_config(3, 1, false, "by_place");
  ASSERT_EQ(find_routing_faults(config).size(), 1U);
  register_routing_rule("by_place", {.decide = decide_by_place});
  EXPECT_TRUE(find_routing_faults(config).empty());
  const auto decision = decide(at::zeros({4, 3}), config, tiny_context(1, 4, 29));
  EXPECT_EQ(to_longs(decision.routing.expert_N), (std::vector<int64_t>{0, 1, 2, 0}));

  config.router = "by_plaice";
  const auto faults = find_routing_faults(config);
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].key, "model.moe.router");
  EXPECT_NE(faults[0].problem.find(" by_place, "), std::string::npos) << faults[0].problem;
}

TEST(OwnRule, IsRefusedUnderANameThatIsTaken) {
  EXPECT_NE(refusal_of("top_k", {.decide = decide_by_place}).find("there is a routing rule called top_k already; choose another name"),
            std::string::npos);
  EXPECT_EQ(refusal_of("by_place_again", {.decide = decide_by_place}), "");
  EXPECT_NE(refusal_of("by_place_again", {.decide = decide_by_place}).find("called by_place_again already"), std::string::npos);
}

TEST(OwnRule, IsRefusedWithoutAFunction) {
  EXPECT_NE(refusal_of("nothing", {}).find("nothing has no function that decides"), std::string::npos);
  EXPECT_FALSE(routing_rules().contains("nothing"));
}

}  // namespace
}  // namespace switchyard
