// Modules that are not ours, with our MoE layer inside.
#include <gtest/gtest.h>

#include "core/moe_layer.h"
#include "core/parameters_by_name.h"
#include "tests/routing_tools.h"

namespace switchyard {
namespace {

/// Experts [2, 4) of 4 stand here; nothing is dispatched.
class SecondHalf : public TokenDispatcher {
 public:
  std::unique_ptr<DispatchTicket> begin(const at::Tensor&, const Routing&, const at::Tensor&) override { return nullptr; }
  ExpertRows finish(DispatchTicket&) override { return {}; }
  void combine_begin(DispatchTicket&, const at::Tensor&) override {}
  at::Tensor combine_finish(DispatchTicket&) override { return {}; }
  int64_t first_expert() const override { return 2; }
  int64_t num_local_experts() const override { return 2; }
  const std::vector<int64_t>& chunk_starts() const override { return chunk_starts_; }

 private:
  std::vector<int64_t> chunk_starts_ = {0, 2};
};

struct Outer : torch::nn::Module {
  Outer() {
    auto inner = register_module("inner", std::make_shared<torch::nn::Module>("inner"));
    inner->register_parameter("scale", at::ones({3, 3}));
    inner->register_parameter("bias", at::ones({3, 3}));
    inner->register_module("moe", MoeLayer(tiny_config(), std::make_shared<SecondHalf>()));
  }
};

TEST(ParametersByName, KnowTheExpertsOfALayerInsideSomebodysModule) {
  std::vector<std::string> names;
  for (const auto& parameter : parameters_by_name(Outer())) {
    names.push_back(parameter.name);
    const bool is_expert = parameter.name.find("experts") != std::string::npos;
    EXPECT_EQ(parameter.num_experts, is_expert ? 4 : 0) << parameter.name;
    EXPECT_EQ(parameter.first_expert, is_expert ? 2 : 0) << parameter.name;
    EXPECT_EQ(parameter.decays, parameter.name != "inner.bias") << parameter.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"inner.scale", "inner.bias", "inner.moe.router.weight", "inner.moe.experts.gate_up",
                                             "inner.moe.experts.down"}));
}

TEST(ParametersByName, KnowTheExpertsOfALayerThatStandsAlone) {
  const MoeLayer layer(tiny_config(), std::make_shared<SecondHalf>());
  const auto parameters = parameters_by_name(*layer);
  ASSERT_EQ(parameters.size(), 3U);
  EXPECT_EQ(parameters.front().num_experts, 0);
  EXPECT_EQ(parameters.back().first_expert, 2);
}

std::string refusal_of(const ModelConfig& config) {
  try {
    MoeLayer(config, std::make_shared<SecondHalf>());
    return "";
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
}

TEST(MoeLayer, RefusesAConfigurationThatNobodyHasChecked) {
  EXPECT_NE(refusal_of(tiny_config(/*moe=*/false)).find("MoeLayer: the configuration has no experts"), std::string::npos);
  auto config = tiny_config();
  config.moe->ffn_hidden_size = 0;
  EXPECT_NE(refusal_of(config).find("moe.ffn_hidden_size = 0 must be positive"), std::string::npos);
  config = tiny_config();
  config.moe->router = "other";
  EXPECT_NE(refusal_of(config).find("MoeLayer: model.moe.router is not a known routing rule; use "), std::string::npos);
}

}  // namespace
}  // namespace switchyard
