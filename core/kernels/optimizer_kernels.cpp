#include "core/kernels/optimizer_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "core/kernels/arithmetic.h"
#include "core/kernels/lane_sum.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

/// Elements that a thread takes at once.
constexpr int64_t kBlock = 4096;

int64_t blocks_of(int64_t numel) {
  return (numel + kBlock - 1) / kBlock;
}

template <typename T, bool kWritesBf16>
struct AdamwBlock {
  SWITCHYARD_INLINED void row(int64_t block) const {
    const int64_t begin = block * kBlock, end = std::min(numel, begin + kBlock);
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const T g = gradients[i] * scale;
      const T m = exp_avg[i] + new_share1 * (g - exp_avg[i]), v = exp_avg_sq[i] * beta2 + new_share2 * g * g;
      const T weight = master[i] * kept - step_size * m / (std::sqrt(v) * correction2 + eps);
      exp_avg[i] = m;
      exp_avg_sq[i] = v;
      master[i] = weight;
      if constexpr (kWritesBf16) weights[i] = narrowed<c10::BFloat16>(weight);
    }
  }

  T* __restrict master, * __restrict exp_avg, * __restrict exp_avg_sq;
  c10::BFloat16* __restrict weights;
  const T* __restrict gradients;
  int64_t numel;
  T scale, new_share1, beta2, new_share2, kept, step_size, correction2, eps;
};

template <typename T, bool kWritesBf16>
void run_adamw(const AdamwBuffers& buffers, const AdamwNumbers& numbers) {
  const auto as_t = [](double value) { return static_cast<T>(value); };
  const AdamwBlock<T, kWritesBf16> kernel{buffers.master.data_ptr<T>(),
                                          buffers.exp_avg.data_ptr<T>(),
                                          buffers.exp_avg_sq.data_ptr<T>(),
                                          kWritesBf16 ? buffers.weights.data_ptr<c10::BFloat16>() : nullptr,
                                          buffers.gradients.const_data_ptr<T>(),
                                          buffers.master.numel(),
                                          as_t(numbers.gradient_scale),
                                          as_t(1.0 - numbers.beta1),
                                          as_t(numbers.beta2),
                                          as_t(1.0 - numbers.beta2),
                                          as_t(1.0 - numbers.learning_rate * numbers.weight_decay),
                                          as_t(numbers.learning_rate / (1.0 - std::pow(numbers.beta1, numbers.step))),
                                          as_t(1.0 / std::sqrt(1.0 - std::pow(numbers.beta2, numbers.step))),
                                          as_t(numbers.eps)};
  for_each_row(blocks_of(kernel.numel), kBlock, kernel);
}

template <typename T>
struct SquaresOfBlock {
  SWITCHYARD_INLINED void row(int64_t block) const {
    const int64_t begin = block * kBlock;
    const T* first = values + begin;
    sums[block] = LaneSum<double>::of(
        std::min(kBlock, numel - begin), [=](int64_t i) __attribute__((always_inline)) {
          const auto value = static_cast<double>(first[i]);
          return value * value;
        });
  }

  double* sums;
  const T* values;
  int64_t numel;
};

}  // namespace

void adamw(const AdamwBuffers& buffers, const AdamwNumbers& numbers) {
  const auto dtype = buffers.master.scalar_type();
  for (const auto* buffer : {&buffers.master, &buffers.gradients, &buffers.exp_avg, &buffers.exp_avg_sq}) {
    TORCH_CHECK(buffer->is_cpu() && buffer->is_contiguous() && buffer->scalar_type() == dtype && buffer->numel() == buffers.master.numel(),
                "adamw: buffers of ", buffers.master.numel(), " ", dtype, ", one has ", buffer->numel(), " ", buffer->scalar_type());
  }
  if (buffers.weights.defined()) {
    TORCH_CHECK(dtype == at::kFloat && buffers.weights.scalar_type() == at::kBFloat16 && buffers.weights.is_contiguous() &&
                    buffers.weights.numel() == buffers.master.numel(),
                "adamw: weights beside an fp32 master must be as many bf16, got ", buffers.weights.numel(), " ",
                buffers.weights.scalar_type());
    run_adamw<float, true>(buffers, numbers);
  } else if (dtype == at::kFloat) {
    run_adamw<float, false>(buffers, numbers);
  } else {
    run_adamw<double, false>(buffers, numbers);
  }
}

double sum_of_squares(const at::Tensor& values) {
  TORCH_CHECK(values.is_cpu() && values.is_contiguous(), "sum_of_squares: a dense CPU tensor");
  std::vector<double> sums(static_cast<size_t>(blocks_of(values.numel())));
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "sum_of_squares", [&] {
    const SquaresOfBlock<scalar_t> kernel{sums.data(), values.const_data_ptr<scalar_t>(), values.numel()};
    for_each_row(static_cast<int64_t>(sums.size()), kBlock, kernel);
  });
  double sum = 0.0;
  for (const double block : sums) sum += block;
  return sum;
}

}  // namespace switchyard::kernels
