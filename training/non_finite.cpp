#include "training/non_finite.h"

#include <algorithm>

namespace switchyard {
namespace {

/// A floating-point number is not finite where all bits of its exponent are set.
template <typename Bits>
std::optional<int64_t> first_with_all_bits(const at::Tensor& tensor, Bits exponent_mask) {
  constexpr int64_t kBlock = 4096;  // the inner loop has no exit, so that it is vectorised
  const auto* bits = static_cast<const Bits*>(tensor.const_data_ptr());
  for (int64_t begin = 0; begin < tensor.numel(); begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, tensor.numel());
    Bits found = 0;
    for (int64_t i = begin; i < end; ++i) found |= static_cast<Bits>((bits[i] & exponent_mask) == exponent_mask);
    if (found == 0) continue;
    return std::find_if(bits + begin, bits + end, [&](Bits value) { return (value & exponent_mask) == exponent_mask; }) - bits;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> first_non_finite(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.device().is_cpu(), "first_non_finite: needs a contiguous CPU tensor");
  switch (tensor.scalar_type()) {
    case at::kHalf:
      return first_with_all_bits<uint16_t>(tensor, 0x7C00);
    case at::kBFloat16:
      return first_with_all_bits<uint16_t>(tensor, 0x7F80);
    case at::kFloat:
      return first_with_all_bits<uint32_t>(tensor, 0x7F800000);
    case at::kDouble:
      return first_with_all_bits<uint64_t>(tensor, 0x7FF0000000000000);
    default:
      break;
  }
  TORCH_CHECK(!tensor.is_floating_point() && !tensor.is_complex(), "first_non_finite: dtype ", tensor.scalar_type(), " is not supported");
  return std::nullopt;
}

}  // namespace switchyard
