#include "core/gradient_room.h"

#include <gtest/gtest.h>

#include "core/init.h"
#include "core/moe_layer.h"
#include "core/parameters_by_name.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

MoeLayer layer_of(const ModelConfig& config, int64_t num_chunks = 1) {
  MoeLayer layer(config, make_local_dispatcher(config.moe->num_experts, num_chunks));
  initialize_parameters(parameters_by_name(*layer), config, /*seed=*/3);
  return layer;
}

at::Tensor backward_of(MoeLayer layer, const ModelConfig& config) {
  const auto x = normal({2, 5, config.hidden_size}, 8).requires_grad_(true);
  layer->forward(x, tiny_context(2, 5, config.vocab_size)).y_BSD.square().sum().backward();
  return x.grad();
}

TEST(GradientRoom, BelongsToParametersOfAStoreAlone) {
  const auto parameter = normal({4, 4}, 1).requires_grad_(true);
  EXPECT_EQ(gradient_room_of(parameter), nullptr);
  EXPECT_EQ(gradient_room_of(parameter * 2), nullptr);
  ParameterStore store({{.name = "p", .tensor = parameter}}, at::kDouble, at::kCPU, /*with_optimizer_state=*/true);
  ASSERT_NE(gradient_room_of(parameter), nullptr);
  EXPECT_EQ(gradient_room_of(parameter)->sum().const_data_ptr(), store.groups()[0].gradients.const_data_ptr());
}

/// Two backwards add up, and the listener hears of every parameter once in each.
TEST(GradientRoom, HoldsTheSumsThatAutogradWouldHaveMade) {
  const auto config = tiny_config();
  auto plain = layer_of(config), stored = layer_of(config);
  for (auto& parameter : plain->parameters()) parameter.set_data(parameter.to(at::kDouble));
  ParameterStore store(parameters_by_name(*stored), at::kDouble, at::kCPU, /*with_optimizer_state=*/true);
  std::map<std::pair<size_t, size_t>, int> arrivals;
  store.listen_to_gradients([&](size_t group, size_t slot) { ++arrivals[{group, slot}]; });
  for (int pass = 0; pass < 2; ++pass) {
    const auto expected = backward_of(plain, config), actual = backward_of(stored, config);
    EXPECT_TRUE(at::allclose(actual, expected, 1e-12, 1e-14));
  }
  const auto plain_parameters = plain->named_parameters(), stored_parameters = stored->named_parameters();
  for (const auto& item : plain_parameters) {
    EXPECT_TRUE(at::allclose(stored_parameters[item.key()].grad(), item.value().grad(), 1e-12, 1e-14)) << item.key();
  }
  EXPECT_EQ(arrivals.size(), plain_parameters.size());
  for (const auto& [place, count] : arrivals) EXPECT_EQ(count, 2);
}

TEST(GradientRoom, TakesBf16ProductsInFp32) {
  const auto config = tiny_config();
  auto layer = layer_of(config);
  ParameterStore store(parameters_by_name(*layer), at::kBFloat16, at::kCPU, /*with_optimizer_state=*/true);
  const auto x = normal({2, 5, config.hidden_size}, 8).to(at::kBFloat16);
  layer->forward(x, tiny_context(2, 5, config.vocab_size)).y_BSD.sum().backward();
  EXPECT_GT(store.experts().gradients.abs().sum().item<double>(), 0.0);
  for (const auto& parameter : layer->parameters()) EXPECT_FALSE(parameter.grad().defined());
}

}  // namespace
}  // namespace switchyard
