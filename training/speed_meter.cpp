#include "training/speed_meter.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int64_t peak_product_width(at::Device device) {
  return device.is_cpu() ? 1024 : 8192;
}

double measure_peak_flops(at::ScalarType dtype, at::Device device) {
  constexpr double kBudgetSeconds = 0.25;
  const int64_t width = peak_product_width(device);
  const double flops = 2.0 * std::pow(static_cast<double>(width), 3.0);
  const auto a = at::ones({width, width}, at::dtype(dtype).device(device)), b = at::ones_like(a);
  auto product = at::empty_like(a);
  at::mm_out(product, a, b);  // warms up: kernels are built and pages touched
  double best = std::numeric_limits<double>::infinity();
  const auto begin = std::chrono::steady_clock::now();
  do {
    const auto start = std::chrono::steady_clock::now();
    at::mm_out(product, a, b);
    product[0][0].item<double>();  // waits for an asynchronous device
    best = std::min(best, seconds_since(start));
  } while (seconds_since(begin) < kBudgetSeconds);
  return flops / best;
}

void SpeedMeter::start_step() {
  started_ = Clock::now();
}

void SpeedMeter::end_step(double tokens) {
  const double seconds = seconds_since(started_);
  tokens_per_second_ = tokens / seconds;
  if (++steps_ > 1) counted_seconds_ += seconds;
}

double SpeedMeter::seconds_left(int64_t steps_left) const {
  if (steps_ < 2) return std::numeric_limits<double>::quiet_NaN();
  return counted_seconds_ / static_cast<double>(steps_ - 1) * static_cast<double>(steps_left);
}

}  // namespace switchyard
