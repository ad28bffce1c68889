#include "training/activation_memory.h"

#include <gtest/gtest.h>

#include "tests/tiny_models.h"

namespace switchyard {
namespace {

TEST(ActivationBytes, GrowWithTokensAndWidthOfTheDtype) {
  const auto config = tiny_config();
  const auto few = activation_bytes(config, 100, at::kFloat, Recompute::kNone),
             many = activation_bytes(config, 300, at::kFloat, Recompute::kNone);
  EXPECT_DOUBLE_EQ(many.kept, 3.0 * few.kept);
  EXPECT_DOUBLE_EQ(many.one_block, 3.0 * few.one_block);
  EXPECT_DOUBLE_EQ(activation_bytes(config, 100, at::kDouble, Recompute::kNone).kept, 2.0 * few.kept);
  // bf16 halves all but what the router sees, which is fp32.
  const auto half = activation_bytes(config, 100, at::kBFloat16, Recompute::kNone).kept;
  EXPECT_GT(half, 0.5 * few.kept);
  EXPECT_LT(half, 0.7 * few.kept);
}

TEST(ActivationBytes, AreWhatTheFormulaSaysForOneDenseBlock) {
  auto config = tiny_config(/*moe=*/false);
  config.num_layers = 1;
  // D 16, heads of 4, four of queries and two of keys, width 24: attention 2 D + 6 x 8, feed-forward 2 D + 3 x 24; twice D behind the last
  // block.
  constexpr double kNumbers = 2 * 16 + 6 * 8 + 2 * 16 + 3 * 24 + 2 * 16;
  EXPECT_DOUBLE_EQ(activation_bytes(config, 10, at::kFloat, Recompute::kNone).kept, 4.0 * 10 * kNumbers);
}

TEST(ActivationBytes, ShrinkWithRecomputation) {
  auto config = tiny_config();
  config.num_layers = 8;
  const auto of = [&](Recompute recompute) { return activation_bytes(config, 64, at::kFloat, recompute); };
  EXPECT_LT(of(Recompute::kMoe).total(), of(Recompute::kNone).total());
  EXPECT_LT(of(Recompute::kBlock).total(), of(Recompute::kMoe).total());
  EXPECT_GT(of(Recompute::kBlock).one_block, of(Recompute::kNone).one_block);
}

}  // namespace
}  // namespace switchyard
