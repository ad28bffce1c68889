#include "core/kernels/optimizer_kernels.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/kernels/cross_entropy_kernels.h"

namespace switchyard {
namespace {

struct Buffers {
  explicit Buffers(int64_t numel, at::ScalarType dtype)
      : master(at::randn({numel}, dtype)),
        gradients(at::randn({numel}, dtype)),
        exp_avg(at::randn({numel}, dtype) * 0.1),
        exp_avg_sq(at::rand({numel}, dtype) * 0.1) {}
  Buffers copy() const {
    Buffers other = *this;
    for (auto* tensor : {&other.master, &other.gradients, &other.exp_avg, &other.exp_avg_sq}) *tensor = tensor->clone();
    return other;
  }
  at::Tensor master, gradients, exp_avg, exp_avg_sq;
};

constexpr kernels::AdamwNumbers kNumbers{
    .learning_rate = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .gradient_scale = 0.5, .step = 7.0};

TEST(AdamwKernel, DoesWhatLibTorchsDoes) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    for (const int64_t numel : {1, 7, 4096, 10001}) {
      const Buffers ours(numel, dtype), theirs = ours.copy();
      kernels::adamw({ours.master, ours.gradients, ours.exp_avg, ours.exp_avg_sq}, kNumbers);
      at::Tensor(theirs.gradients).mul_(kNumbers.gradient_scale);
      at::_fused_adamw_({theirs.master}, {theirs.gradients}, {theirs.exp_avg}, {theirs.exp_avg_sq}, {}, {at::full({}, 7.0)},
                        kNumbers.learning_rate, kNumbers.beta1, kNumbers.beta2, kNumbers.weight_decay, kNumbers.eps, false, false);
      const double tolerance = dtype == at::kDouble ? 1e-12 : 2e-6;
      EXPECT_TRUE(at::allclose(ours.master, theirs.master, tolerance, tolerance)) << dtype << " " << numel;
      EXPECT_TRUE(at::allclose(ours.exp_avg, theirs.exp_avg, tolerance, tolerance));
      EXPECT_TRUE(at::allclose(ours.exp_avg_sq, theirs.exp_avg_sq, tolerance, tolerance));
    }
  }
}

TEST(AdamwKernel, WritesBf16WeightsRoundedFromTheMaster) {
  const Buffers buffers(5000, at::kFloat);
  const auto weights = at::zeros({5000}, at::kBFloat16);
  kernels::adamw({buffers.master, buffers.gradients, buffers.exp_avg, buffers.exp_avg_sq, weights}, kNumbers);
  EXPECT_TRUE(at::equal(weights, buffers.master.to(at::kBFloat16)));
}

TEST(AdamwKernel, GivesAnElementTheSameBitsWhereverItStands) {
  const Buffers whole(9000, at::kFloat), parts = whole.copy();
  kernels::adamw({whole.master, whole.gradients, whole.exp_avg, whole.exp_avg_sq}, kNumbers);
  for (const auto& [begin, end] : {std::pair{0, 13}, {13, 4500}, {4500, 9000}}) {
    const auto part = [begin = begin, end = end](const at::Tensor& tensor) { return tensor.slice(0, begin, end); };
    kernels::adamw({part(parts.master), part(parts.gradients), part(parts.exp_avg), part(parts.exp_avg_sq)}, kNumbers);
  }
  EXPECT_TRUE(at::equal(whole.master, parts.master));
}

TEST(SumOfSquares, IsInFp64AndTheSameForAnyNumberOfThreads) {
  const auto values = at::randn({100003}, at::kFloat);
  const double expected = values.to(at::kDouble).square().sum().item<double>();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = kernels::sum_of_squares(values);
  at::set_num_threads(2);
  const double two = kernels::sum_of_squares(values);
  at::set_num_threads(threads);
  EXPECT_NEAR(one, expected, 1e-9 * expected);
  EXPECT_EQ(one, two);
  EXPECT_EQ(kernels::sum_of_squares(at::zeros({0})), 0.0);
}

TEST(CrossEntropyKernel, AgreesWithOperatorsInEveryDtype) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const int64_t width : {1, 3, 31, 64, 257}) {
      const auto logits = (at::randn({9, width}, at::kDouble) * 20.0).to(dtype);
      const auto target = at::randint(width, {9}, at::kLong), mask = at::arange(9).remainder(3).ne(0);
      const auto log_p = logits.to(at::kDouble).log_softmax(1);
      const auto nats = -log_p.gather(1, target.unsqueeze(1)).squeeze(1) * mask;
      const auto gradient = (log_p.exp() - at::one_hot(target, width)) * mask.unsqueeze(1);
      auto ours = logits.clone();
      const auto our_nats = kernels::cross_entropy_and_gradient(ours, target, mask);
      const double tolerance = dtype == at::kDouble ? 1e-13 : dtype == at::kFloat ? 2e-6 : 4e-3;
      EXPECT_TRUE(at::allclose(ours.to(at::kDouble), gradient, tolerance, tolerance)) << dtype << " " << width;
      EXPECT_TRUE(at::allclose(our_nats.to(at::kDouble), nats, 1e-5, 1e-5)) << dtype << " " << width;
    }
  }
}

TEST(CrossEntropyKernel, LetsWhatIsNotFiniteBeSeen) {
  auto logits = at::tensor({0.0F, std::numeric_limits<float>::quiet_NaN(), 1.0F, 2.0F}).view({2, 2});
  const auto nats = kernels::cross_entropy_and_gradient(logits, at::zeros({2}, at::kLong), at::ones({2}, at::kBool));
  EXPECT_TRUE(nats[0].isnan().item<bool>());
  EXPECT_TRUE(nats[1].isfinite().item<bool>());
}

}  // namespace
}  // namespace switchyard
