#include "core/philox.h"

namespace switchyard {
namespace {

constexpr int64_t kWord = 0xFFFFFFFF;

at::Tensor low_word(const at::Tensor& x) {
  return x.bitwise_and(kWord);
}
at::Tensor high_word(const at::Tensor& x) {
  return x.bitwise_right_shift(32).bitwise_and(kWord);
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
  const int64_t B = context.global_sample_B.size(0), blocks = (width + 3) / 4;
  const auto block = at::arange(blocks, options).view({1, 1, blocks}).expand({B, sequence_length, blocks});
  const auto position = at::arange(sequence_length, options).view({1, sequence_length, 1});
  const auto sample = context.global_sample_B.view({B, 1, 1});
  const auto layer = at::full({1, 1, 1}, context.layer | static_cast<int64_t>(purpose) << 24, options);
  const auto seed = static_cast<int64_t>(context.seed);
  const auto words = philox({block, position, sample, layer}, (seed ^ context.step) & kWord, (seed >> 32 ^ context.step >> 32) & kWord);
  const auto word_TD = at::stack(at::TensorList(words), -1).reshape({B * sequence_length, blocks * 4}).narrow(1, 0, width);
  return word_TD.bitwise_right_shift(8).to(at::kFloat) * (1.0F / (1 << 24));  // 24 bits: every value is exact in fp32
}

}  // namespace switchyard
