// Tokens a second, MFU and time left.
#pragma once

#include <chrono>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Of the square matrix product that a device's peak is measured with: 1024, on a GPU, which less would not fill, 8192.
int64_t peak_product_width(at::Device device);

/// Floating-point operations a second of this rank's threads in this product of `dtype` (best of what fits into 0.25 s): the peak that MFU
/// is measured against when logging.peak_gflops is not given.
double measure_peak_flops(at::ScalarType dtype, at::Device device);

class SpeedMeter {
 public:
  /// peak_flops: of all ranks together.
  SpeedMeter(double flops_per_token, double peak_flops) : flops_per_token_(flops_per_token), peak_flops_(peak_flops) {}

  void start_step();
  /// Ends the step that start_step began.
  void end_step(double tokens);

  double tokens_per_second() const { return tokens_per_second_; }
  double mfu() const { return tokens_per_second_ * flops_per_token_ / peak_flops_; }
  /// By the mean step so far; the first step of a process warms up and does not count. NaN before the second.
  double seconds_left(int64_t steps_left) const;

 private:
  using Clock = std::chrono::steady_clock;

  double flops_per_token_;
  double peak_flops_;
  Clock::time_point started_;
  double tokens_per_second_ = 0.0;
  double counted_seconds_ = 0.0;
  int64_t steps_ = 0;
};

}  // namespace switchyard
