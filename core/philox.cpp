#include "core/philox.h"

#include <numbers>

namespace switchyard {
namespace {

constexpr int64_t kWord = 0xFFFFFFFF;

at::Tensor low_word(const at::Tensor& x) {
  return x.bitwise_and(kWord);
}
at::Tensor high_word(const at::Tensor& x) {
  return x.bitwise_right_shift(32).bitwise_and(kWord);
}

/// The last word of a counter: numbers for another layer or purpose are another stream.
int64_t stream_of(int64_t layer, RandomPurpose purpose) {
  return layer | static_cast<int64_t>(purpose) << 24;
}

struct Key {
  int64_t low = 0;
  int64_t high = 0;
};

Key key_of(const TokenContext& context) {
  const auto seed = static_cast<int64_t>(context.seed);
  return {(seed ^ context.step) & kWord, (seed >> 32 ^ context.step >> 32) & kWord};
}

/// [.., .., width] numbers for the counters (element, first, second, stream), whose first two dimensions are broadcast.
at::Tensor uniform(const at::Tensor& first, const at::Tensor& second, int64_t width, int64_t stream, const Key& key) {
  const int64_t blocks = (width + 3) / 4;
  const auto rows = at::infer_size(first.sizes(), second.sizes());
  const auto block = at::arange(blocks, first.options()).view({1, 1, blocks}).expand({rows[0], rows[1], blocks});
  const auto words = philox({block, first, second, at::full({1, 1, 1}, stream, first.options())}, key.low, key.high);
  const auto word = at::stack(at::TensorList(words), -1).flatten(2).narrow(2, 0, width);
  return word.bitwise_right_shift(8).to(at::kFloat) * (1.0F / (1 << 24));  // 24 bits: every value is exact in fp32
}

at::Tensor by_number(const at::Tensor& number_N, int64_t width, int64_t stream, const Key& key) {
  const int64_t N = number_N.size(0);
  return uniform(low_word(number_N).view({N, 1, 1}), high_word(number_N).view({N, 1, 1}), width, stream, key).flatten(0, 1);
}

}  // namespace

std::array<at::Tensor, 4> philox(std::array<at::Tensor, 4> counter, int64_t key_low, int64_t key_high) {
  for (int round = 0; round < 10; ++round) {
    const auto product0 = counter[0] * 0xD2511F53;  // wraps at 64 bits, which keeps all 64 bits of the unsigned product
    const auto product1 = counter[2] * 0xCD9E8D57;
    counter = {high_word(product1).bitwise_xor(counter[1]).bitwise_xor(key_low), low_word(product1),
               high_word(product0).bitwise_xor(counter[3]).bitwise_xor(key_high), low_word(product0)};
    key_low = (key_low + 0x9E3779B9) & kWord;
    key_high = (key_high + 0xBB67AE85) & kWord;
  }
  return counter;
}

at::Tensor uniform_by_token(const TokenContext& context, int64_t sequence_length, int64_t width, RandomPurpose purpose) {
  const auto options = context.global_sample_B.options();
  const int64_t B = context.global_sample_B.size(0);
  const auto position = at::arange(sequence_length, options).view({1, sequence_length, 1});
  const auto sample = context.global_sample_B.view({B, 1, 1});
  return uniform(position, sample, width, stream_of(context.layer, purpose), key_of(context)).flatten(0, 1);
}

at::Tensor normal_by_token(const TokenContext& context, int64_t sequence_length, int64_t width, RandomPurpose purpose) {
  // Box and Muller 1958, in float64: single-precision functions give other bits at the end of a tensor than inside it.
  const auto uniform_T2W = uniform_by_token(context, sequence_length, 2 * width, purpose).to(at::kDouble).view({-1, 2, width});
  const auto radius_TW = (-2.0 * (1.0 - uniform_T2W.select(1, 0)).log()).sqrt();
  return radius_TW * (2.0 * std::numbers::pi * uniform_T2W.select(1, 1)).cos();
}

at::Tensor uniform_by_label(const at::Tensor& label_N, int64_t width, const TokenContext& context, RandomPurpose purpose) {
  return by_number(label_N, width, stream_of(context.layer, purpose), key_of(context));
}

at::Tensor uniform_by_number(const at::Tensor& number_N, int64_t width, int64_t layer, RandomPurpose purpose) {
  return by_number(number_N, width, stream_of(layer, purpose), {});
}

}  // namespace switchyard
