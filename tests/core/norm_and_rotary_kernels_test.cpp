// Norm and rotary embedding in single passes against the plain operators, gradients included.
#include <gtest/gtest.h>

#include "core/norm.h"
#include "core/rotary.h"
#include "tests/finite_differences.h"
#include "tests/kernel_checks.h"

namespace switchyard {
namespace {

constexpr double kEps = 1e-5;

at::Tensor norm_by_operators(const at::Tensor& x, const at::Tensor& weight_D) {
  return weight_D * (x * (x.square().mean(-1, /*keepdim=*/true) + kEps).rsqrt());
}

RmsNorm norm_with(const at::Tensor& weight_D) {
  RmsNorm norm(weight_D.size(0), kEps);
  norm->parameters()[0].set_data(weight_D);
  return norm;
}

TEST(NormKernel, IsItsOperatorsForEveryWidthAndDtype) {
  for (const auto dtype : kKernelDtypes) {
    for (const int64_t D : kKernelWidths) {
      const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
      const auto weight = normal({D}, 1).to(dtype), grad = normal({70, D}, 2).to(dtype);
      auto x = scattered(normal({70, D}, 3).to(dtype)).requires_grad_();
      auto norm = norm_with(weight);
      const auto y = norm->forward(x);
      y.backward(grad);
      auto exact_x = x.detach().to(at::kDouble).requires_grad_(), exact_weight = weight.to(at::kDouble).requires_grad_();
      const auto exact = norm_by_operators(exact_x, exact_weight);
      exact.backward(grad.to(at::kDouble));
      const double two = dtype == at::kBFloat16 ? 2.02 : 20.0, one = dtype == at::kBFloat16 ? 1.01 : 20.0;
      expect_near(y.detach(), exact.detach(), tolerance(dtype, two));
      expect_near(x.grad(), exact_x.grad(), tolerance(dtype, one), tolerance(wide, 64.0));
      // In bf16 every term of the weight's gradient is rounded once before it is added.
      expect_near(norm->parameters()[0].grad(), exact_weight.grad(), tolerance(dtype, two), tolerance(dtype, 8.0));
    }
  }
}

TEST(NormKernel, RoundsTheNormedRowBeforeItIsWeighed) {
  const auto x = normal({32, 100}, 1).to(at::kBFloat16), weight = normal({100}, 2).to(at::kBFloat16);
  const auto wide = x.to(at::kFloat);
  const auto normed = (wide * (wide.square().mean(-1, true) + kEps).rsqrt()).to(at::kBFloat16);
  // All but the few where fp32 sums of another order fall on the other side of a rounding.
  EXPECT_GT(norm_with(weight)->forward(x).eq(weight * normed).to(at::kDouble).mean().item<double>(), 0.995);
  EXPECT_GT(rms_normed(x, kEps).eq(normed).to(at::kDouble).mean().item<double>(), 0.995);
}

TEST(NormKernel, HasItsGradients) {
  const auto x = normal({2, 3, 5, 7}, 1), weight = normal({7}, 2), probe = normal({2, 3, 5, 7}, 3);
  const auto turned = [&](const at::Tensor& v) { return (norm_with(weight)->forward(v.transpose(1, 2)) * probe.transpose(1, 2)).sum(); };
  expect_gradient_matches_differences(turned, x);
  expect_gradient_matches_differences([&](const at::Tensor& v) { return (rms_normed(v, kEps) * probe).sum(); }, x);
  expect_gradient_matches_differences([&](const at::Tensor& v) { return rms_normed(v, kEps).square().sum(); }, x[0][0]);
}

TEST(NormKernel, LiesAsItsInputDoes) {
  const auto x = normal({2, 3, 5, 8}, 1).transpose(1, 2);
  const auto y = rms_normed(x, kEps);
  EXPECT_EQ(y.strides(), x.strides());
  expect_equal(y.contiguous(), rms_normed(x.contiguous(), kEps));
  const auto columns = normal({8, 5}, 2).t();
  expect_equal(rms_normed(columns, kEps).contiguous(), rms_normed(columns.contiguous(), kEps));
}

TEST(NormKernel, GivesEveryRowItsOwnBitsAndOneWeightGradientToAnyThreads) {
  for (const auto dtype : kKernelDtypes) {
    for (const int64_t D : {int64_t(17), int64_t(1027)}) {
      const auto weight = normal({D}, 1).to(dtype);
      const auto gradients = [&](const at::Tensor& both) {
        auto x = both.narrow(1, 0, D).detach().requires_grad_();
        auto norm = norm_with(weight);
        norm->forward(x).backward(both.narrow(1, D, D));
        return std::vector<at::Tensor>{x.grad(), norm->parameters()[0].grad()};
      };
      const auto both = normal({131, 2 * D}, 2).to(dtype);
      expect_rows_of_their_own(both, [&](const at::Tensor& rows) { return norm_with(weight)->forward(rows.narrow(1, 0, D)).detach(); });
      expect_rows_of_their_own(both, [&](const at::Tensor& rows) { return gradients(rows)[0]; });
      const int threads = at::get_num_threads();
      at::set_num_threads(1);
      const auto by_one = gradients(both)[1];
      at::set_num_threads(2);
      EXPECT_TRUE(same_bits(gradients(both)[1], by_one));
      at::set_num_threads(threads);
    }
  }
}

TEST(NormKernel, PassesOnWhatIsNotFiniteAndTakesNoRows) {
  const auto x = at::tensor({1.0, kInfinity, 1e4, kNaN, -1e4, 1.0}).view({3, 2});
  const auto y = rms_normed(x, kEps);
  EXPECT_EQ(y[0][0].item<float>(), 0.0f);
  EXPECT_TRUE(y[0][1].isnan().item<bool>() && y[1].isnan().all().item<bool>());
  EXPECT_NEAR(y[2][0].item<float>(), -std::sqrt(2.0), 1e-6);
  auto none = at::empty({0, 4}).requires_grad_();
  auto norm = norm_with(at::ones({4}));
  norm->forward(none).sum().backward();
  expect_equal(none.grad(), at::empty({0, 4}));
  expect_equal(norm->parameters()[0].grad(), at::zeros({4}));
}

/// cos and sin by pair, as (position, pair) -> angle at theta = 100.
at::Tensor rotated_by_operators(const at::Tensor& x_BHSd, const at::Tensor& position_BS, int64_t rotary_dim, const RopeConfig& config) {
  const auto angle = position_BS.to(at::kDouble).unsqueeze(-1) * rotary_frequencies(rotary_dim, 100.0, config);
  const auto cos = (angle.cos() * rotary_attention_factor(config)).unsqueeze(1),
             sin = (angle.sin() * rotary_attention_factor(config)).unsqueeze(1);
  const auto turned = x_BHSd.narrow(3, 0, rotary_dim), rest = x_BHSd.narrow(3, rotary_dim, x_BHSd.size(3) - rotary_dim);
  const auto pairs = config.interleaved ? turned.unflatten(3, {-1, 2}) : turned.unflatten(3, {2, -1}).transpose(3, 4);
  const auto a = pairs.select(4, 0), b = pairs.select(4, 1);
  const auto both = at::stack({a * cos - b * sin, b * cos + a * sin}, 4);
  return at::cat({(config.interleaved ? both : both.transpose(3, 4)).flatten(3), rest}, 3);
}

TEST(RotaryKernel, IsItsOperatorsInEveryForm) {
  const RopeConfig yarn = {.scaling = RopeScaling::kYarn, .factor = 8.0, .original_length = 16};
  const auto own_positions = longs({0, 1, 2, 3, 4, 0, 1, 0, 1, 2}).view({2, 5}), plain_positions = at::arange(5).expand({2, 5});
  for (const auto dtype : kKernelDtypes) {
    for (const int64_t rotary_dim : {2, 6, 34, 136}) {
      for (const bool interleaved : {false, true}) {
        for (const int64_t rest : {0, 5}) {
          auto config = yarn;
          config.interleaved = interleaved;
          const bool own = rest == 0;
          const RotaryTable all(5, rotary_dim, 100.0, config), table = own ? all.at_positions(own_positions) : all;
          auto x = normal({2, 5, 3, rotary_dim + rest}, 1).to(dtype).transpose(1, 2).requires_grad_();
          auto exact_x = x.detach().to(at::kDouble).requires_grad_();
          const auto grad = normal({2, 3, 5, rotary_dim + rest}, 2).to(dtype);
          const auto y = table.rotate(x);
          const auto exact = rotated_by_operators(exact_x, own ? own_positions : plain_positions, rotary_dim, config);
          y.backward(grad);
          exact.backward(grad.to(at::kDouble));
          const double small = tolerance(dtype == at::kDouble ? dtype : at::kFloat, 8.0);
          expect_near(y.detach(), exact.detach(), tolerance(dtype, 1.01), small);
          expect_near(x.grad(), exact_x.grad(), tolerance(dtype, 1.01), small);
          EXPECT_EQ(y.strides(), x.strides());
          EXPECT_EQ(x.grad().strides(), x.strides());
        }
      }
    }
  }
}

TEST(RotaryKernel, GivesAPositionItsOwnBits) {
  for (const auto dtype : kKernelDtypes) {
    const RotaryTable table(64, 6, 100.0);
    const auto x = normal({2, 3, 64, 7}, 1).to(dtype);
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const auto y = table.rotate(x);
    EXPECT_TRUE(same_bits(table.rotate(x.narrow(2, 0, 1)), y.narrow(2, 0, 1)));
    EXPECT_TRUE(same_bits(table.from_position(63).rotate(x.narrow(2, 63, 1)), y.narrow(2, 63, 1)));
    EXPECT_TRUE(same_bits(table.rotate(x.transpose(1, 2).contiguous().transpose(1, 2)), y));
    EXPECT_TRUE(same_bits(table.rotate(x.transpose(2, 3).contiguous().transpose(2, 3)), y));
    at::set_num_threads(2);
    EXPECT_TRUE(same_bits(table.rotate(x), y));
    at::set_num_threads(threads);
  }
}

TEST(RotaryKernel, TakesGradientsWithoutStridesAndNoPositions) {
  const RotaryTable table(4, 4, 100.0);
  expect_gradient_matches_differences([&](const at::Tensor& x) { return table.rotate(x).sum(); }, normal({1, 2, 3, 5}, 1));
  EXPECT_EQ(table.rotate(at::empty({2, 3, 0, 4})).numel(), 0);
}

}  // namespace
}  // namespace switchyard
