#include "core/lstm.h"

#include <gtest/gtest.h>

#include "tests/finite_differences.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

Lstm small_lstm() {
  Lstm lstm(3);
  uint64_t seed = 1;
  for (auto& parameter : lstm->parameters()) parameter.set_data(normal(parameter.sizes(), seed++));
  return lstm;
}

/// One sequence by LibTorch's own cell, the state starting at zero.
at::Tensor by_cells(Lstm& lstm, const at::Tensor& x_SD) {
  const auto parameters = lstm->named_parameters();
  auto hidden = at::zeros({1, 3}, at::kDouble), cell = hidden;
  std::vector<at::Tensor> outputs;
  for (int64_t s = 0; s < x_SD.size(0); ++s) {
    std::tie(hidden, cell) = at::lstm_cell(x_SD.narrow(0, s, 1), {hidden, cell}, parameters["input"], parameters["recurrent"],
                                           parameters["bias"], at::zeros({12}, at::kDouble));
    outputs.push_back(hidden);
  }
  return at::cat(outputs);
}

at::Tensor mixed(Lstm& lstm, const at::Tensor& x_BSD, const at::Tensor& document_BS = {}) {
  TokenContext context;
  context.document_BS = document_BS;
  const AttentionPlan plan{
      .rotary = RotaryTable(1, 2, 10.0), .full_mask = {}, .limited_mask = {}, .past_document_B1 = {}, .temperature_S1 = {}};
  return lstm->forward(x_BSD, plan, context, /*state=*/nullptr);
}

TEST(Lstm, ComputesWhatLibTorchsCellDoes) {
  auto lstm = small_lstm();
  const auto x = normal({2, 5, 3}, 9);
  const auto y = mixed(lstm, x);
  for (int64_t b = 0; b < 2; ++b) EXPECT_TRUE(at::allclose(y[b], by_cells(lstm, x[b]), 1e-12, 1e-14));
}

TEST(Lstm, StartsAnewWithEveryDocument) {
  auto lstm = small_lstm();
  const auto x = normal({1, 6, 3}, 9);
  const auto y = mixed(lstm, x, longs({0, 0, 1, 1, 1, 2}).unsqueeze(0))[0];
  EXPECT_TRUE(at::allclose(y.narrow(0, 2, 3), by_cells(lstm, x[0].narrow(0, 2, 3)), 1e-12, 1e-14));
  EXPECT_TRUE(at::allclose(y.narrow(0, 5, 1), by_cells(lstm, x[0].narrow(0, 5, 1)), 1e-12, 1e-14));
}

TEST(Lstm, HasTheGradientOfItsInput) {
  auto lstm = small_lstm();
  const auto probe = normal({2, 4, 3}, 8);
  expect_gradient_matches_differences([&](const at::Tensor& x) { return (mixed(lstm, x) * probe).sum(); }, normal({2, 4, 3}, 9));
}

}  // namespace
}  // namespace switchyard
