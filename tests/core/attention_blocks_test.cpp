// Attention by blocks of queries against LibTorch's operators in fp64, with more queries than one block has.
#include "core/attention_blocks.h"

#include <gtest/gtest.h>

#include "core/kernels/addition_kernels.h"
#include "core/kernels/softmax_kernels.h"
#include "tests/kernel_checks.h"

namespace switchyard {
namespace {

struct AttentionShape {
  const char* name;
  int64_t B, H, K, S, P, d, v;
  bool masked;
};

/// What goes in, and the gradient of what comes out.
struct Attended {
  at::Tensor query, key, value, mask, grad;

  Attended(const AttentionShape& shape, at::ScalarType dtype)
      : query(normal({shape.B, shape.S, shape.H, shape.d}, 1, dtype).transpose(1, 2)),
        key(normal({shape.B, shape.K, shape.P, shape.d}, 2, dtype)),
        value(normal({shape.B, shape.P, shape.K, shape.v}, 3, dtype).transpose(1, 2)),
        grad(normal({shape.B, shape.H, shape.S, shape.v}, 4, dtype)) {
    if (!shape.masked) return;
    // Holes of every third key, but for the diagonal, after what past tokens there are; the second sequence has its own.
    const auto query_S1 = at::arange(shape.P - shape.S, shape.P).unsqueeze(1), key_P = at::arange(shape.P);
    const auto distance = query_S1 - key_P;
    const auto sees = at::stack({distance >= 0, at::logical_and(distance >= 0, distance % 3 != 1)}).narrow(0, 0, shape.B);
    mask = at::zeros(sees.sizes(), query.options()).masked_fill_(sees.logical_not(), -kInfinity).unsqueeze(1);
  }
};

constexpr double kFactor = 0.3;

/// The output and the gradients of query, key and value.
using AttentionResults = std::vector<at::Tensor>;

template <class Attend>
AttentionResults attended(const Attended& in, Attend attend) {
  const auto leaf = [](const at::Tensor& x) { return x.detach().requires_grad_(); };
  const auto query = leaf(in.query), key = leaf(in.key), value = leaf(in.value);
  const auto mixed = attend(query, key, value, in.mask);
  mixed.backward(in.grad);
  return {mixed.detach(), query.grad(), key.grad(), value.grad()};
}

AttentionResults by_blocks(const Attended& in) {
  return attended(in, [](const auto& query, const auto& key, const auto& value, const auto& mask) {
    return attend_by_blocks(query, key, value, mask, kFactor);
  });
}

/// In fp64.
AttentionResults by_operators(Attended in) {
  for (auto* x : {&in.query, &in.key, &in.value, &in.grad}) *x = x->to(at::kDouble);
  return attended(in, [](const auto& query, const auto& key, const auto& value, const auto& mask) {
    const int64_t g = query.size(1) / key.size(1), S = query.size(2);
    auto score = at::matmul(query, key.repeat_interleave(g, 1).transpose(2, 3)) * kFactor;
    score = mask.defined() ? score + mask : score.masked_fill(at::ones({S, S}, at::kBool).triu_(1), -kInfinity);
    return at::matmul(score.softmax(-1), value.repeat_interleave(g, 1));
  });
}

class AttentionBlocks : public ::testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionBlocks, AreTheWholeSoftmaxForwardAndBackward) {
  for (const auto dtype : kKernelDtypes) {
    const Attended in(GetParam(), dtype);
    const auto exact = by_operators(in), actual = by_blocks(in);
    for (size_t i = 0; i < exact.size(); ++i) {
      EXPECT_EQ(actual[i].scalar_type(), dtype);
      expect_near(actual[i], exact[i], tolerance(dtype, 8.0), tolerance(dtype, dtype == at::kBFloat16 ? 4.0 : 40.0));
    }
  }
}

TEST_P(AttentionBlocks, GiveASequenceItsOwnBitsInAnyBatchWithAnyThreads) {
  for (const auto dtype : kKernelDtypes) {
    const Attended all(GetParam(), dtype);
    auto last = all;
    for (auto* x : {&last.query, &last.key, &last.value, &last.grad}) *x = x->narrow(0, GetParam().B - 1, 1);
    if (last.mask.defined()) last.mask = last.mask.narrow(0, GetParam().B - 1, 1);
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const auto one = by_blocks(all), alone = by_blocks(last);
    at::set_num_threads(2);
    const auto two = by_blocks(all);
    at::set_num_threads(threads);
    for (size_t i = 0; i < one.size(); ++i) {
      EXPECT_TRUE(same_bits(one[i], two[i])) << dtype << " result " << i;
      EXPECT_TRUE(same_bits(one[i].narrow(0, GetParam().B - 1, 1), alone[i])) << dtype << " result " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionBlocks,
                         ::testing::Values(AttentionShape{"one_block", 2, 2, 2, 33, 33, 8, 8, false},
                                           AttentionShape{"grouped_in_three_blocks", 2, 4, 2, 600, 600, 16, 16, false},
                                           AttentionShape{"one_key_head_wide_values", 2, 6, 1, 190, 190, 8, 24, false},
                                           AttentionShape{"masked", 2, 4, 2, 530, 530, 8, 8, true},
                                           AttentionShape{"after_past_tokens", 2, 4, 2, 3, 70, 8, 8, true},
                                           AttentionShape{"one_token", 2, 4, 4, 1, 1, 8, 8, false}),
                         [](const auto& info) { return info.param.name; });

TEST(AttentionByBlocks, SeeNothingOfLaterTokens) {
  Attended in({"", 1, 2, 1, 600, 600, 8, 8, false}, at::kFloat);
  const auto before = by_blocks(in)[0].clone();
  in.key = in.key.clone();
  in.key.narrow(2, 300, 300).fill_(kNaN);
  in.value = in.value.clone();
  in.value.narrow(2, 300, 300).fill_(7.0);
  in.grad.narrow(2, 300, 300).zero_();
  const auto after = by_blocks(in)[0];
  EXPECT_TRUE(same_bits(after.narrow(2, 0, 300), before.narrow(2, 0, 300)));
}

/// Scores that no exponential of theirs could hold, and one key alone.
TEST(SoftmaxKernel, TakesScoresOfAnySize) {
  const auto score = at::tensor({1e4f, 1e4f, -1e4f, -1e4f, -1e4f, 5.0f}).view({2, 3});
  auto share = at::empty_like(score), lse = at::empty({2});
  kernels::softmax_out(share, lse, score.clone(), {.num_queries = 2, .of_first = 2, .mask_QN = {}}, 1.0);
  expect_equal(share, at::tensor({0.5f, 0.5f, 0.0f, 0.0f, 0.0f, 1.0f}).view({2, 3}));
  EXPECT_NEAR(lse[0].item<float>(), 1e4 + std::log(2.0), 1e-3);
  EXPECT_EQ(lse[1].item<float>(), 5.0f);
  const auto mask = at::tensor({0.0, -kInfinity, 0.0, -kInfinity, 0.0, -kInfinity}, at::kFloat).view({2, 3});
  kernels::softmax_out(share, lse, score.clone(), {.num_queries = 2, .of_first = 0, .mask_QN = mask}, 1.0);
  expect_equal(share, at::tensor({1.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f}).view({2, 3}));
}

TEST(AddTo, WidensEachElement) {
  for (const int64_t width : kKernelWidths) {
    const auto term = normal({5, width}, 1, at::kBFloat16), start = normal({5, width}, 2, at::kFloat);
    const auto expected = start + term.to(at::kFloat);
    auto dense = start.clone(), apart = scattered(start), columns = start.t().clone().t();
    kernels::add_to(dense, term);
    kernels::add_to(apart, scattered(term));
    kernels::add_to(columns, term);
    for (const auto& sum : {dense, apart, columns}) expect_equal(sum, expected);
  }
  auto wide = at::ones({3}, at::kDouble);
  kernels::add_to(wide, at::full({3}, 0.5, at::kFloat));
  expect_equal(wide, at::full({3}, 1.5, at::kDouble));
}

}  // namespace
}  // namespace switchyard
