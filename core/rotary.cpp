#include "core/rotary.h"

#include <cmath>
#include <numbers>

#include "core/dtypes.h"
#include "core/kernels/rotary_kernels.h"
#include "core/kernels/rows.h"

namespace switchyard {
namespace {

/// inv_freq of Llama 3.1: long wavelengths divided by factor, short ones left, a straight line in the turns between, or a step where both
/// bounds are one (Llama 4 Scout).
at::Tensor stretch_long_waves(const at::Tensor& frequency, const RopeConfig& config) {
  const auto turns = frequency * static_cast<double>(config.original_length) / (2.0 * std::numbers::pi);
  const double width = std::max(config.high_freq_factor - config.low_freq_factor, 1e-9);  // no division by zero
  const auto kept = ((turns - config.low_freq_factor) / width).clamp(0.0, 1.0);
  return frequency * kept + frequency / config.factor * (1.0 - kept);
}

/// The (fractional) pair that turns so often over the original length.
double pair_of_turns(double turns, int64_t rotary_dim, double theta, const RopeConfig& config) {
  const double length = static_cast<double>(config.original_length);
  return static_cast<double>(rotary_dim) * std::log(length / (2.0 * std::numbers::pi * turns)) / (2.0 * std::log(theta));
}

/// "NTK by parts": section 3.2 of the YaRN paper, the ramp over pairs instead of wavelengths as its code has it.
at::Tensor stretch_by_ramp(const at::Tensor& frequency, int64_t rotary_dim, double theta, const RopeConfig& config) {
  double low = pair_of_turns(config.beta_fast, rotary_dim, theta, config),
         high = pair_of_turns(config.beta_slow, rotary_dim, theta, config);
  if (config.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary_dim - 1));
  if (low == high) high += 0.001;  // no division by zero
  const auto ramp = ((at::arange(rotary_dim / 2, frequency.options()) - low) / (high - low)).clamp(0.0, 1.0);
  return frequency * (1.0 - ramp) + frequency / config.factor * ramp;
}

double yarn_scale(double mscale, double factor) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// Each pair's number at both its places; the first one's times `sign_of_first`.
at::Tensor at_both_places(const at::Tensor& pairs_Sp, double sign_of_first, bool interleaved) {
  const std::vector<at::Tensor> both = {pairs_Sp * sign_of_first, pairs_Sp};
  return interleaved ? at::stack(both, -1).flatten(-2) : at::cat(both, -1);
}

struct Rotate : torch::autograd::Function<Rotate> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_BHSd, const at::Tensor& cos,
                            const at::Tensor& sin, bool interleaved) {
    const auto dense_BHSd = kernels::with_dense_rows(x_BHSd);
    const auto y_BHSd = at::empty_like(dense_BHSd);  // in the order of x's dimensions: heads that were transposed need no copy
    kernels::rotate_out(y_BHSd, dense_BHSd, {cos, sin, interleaved}, /*transposed=*/false);
    context->save_for_backward({cos, sin});
    context->saved_data["interleaved"] = interleaved;
    context->saved_data["strides"] = y_BHSd.strides();
    return y_BHSd;
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context, const torch::autograd::tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto grad_y_BHSd = kernels::with_dense_rows(grads[0]);
    const auto grad_x_BHSd = at::empty_strided(grad_y_BHSd.sizes(), context->saved_data["strides"].toIntVector(), grad_y_BHSd.options());
    kernels::rotate_out(grad_x_BHSd, grad_y_BHSd, {saved[0], saved[1], context->saved_data["interleaved"].toBool()}, /*transposed=*/true);
    return {grad_x_BHSd, {}, {}, {}};
  }
};

}  // namespace

at::Tensor rotary_frequencies(int64_t rotary_dim, double theta, const RopeConfig& config) {
  const auto pair = at::arange(0, rotary_dim, 2, at::kDouble);
  const auto frequency = at::pow(theta, -pair / static_cast<double>(rotary_dim));
  switch (config.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      return frequency / config.factor;
    case RopeScaling::kLlama3:
      return stretch_long_waves(frequency, config);
    case RopeScaling::kYarn:
      return stretch_by_ramp(frequency, rotary_dim, theta, config);
  }
  return frequency;
}

double rotary_attention_factor(const RopeConfig& config) {
  if (config.scaling != RopeScaling::kYarn) return 1.0;
  if (config.attention_factor) return *config.attention_factor;
  if (config.mscale == 0.0 || config.mscale_all_dim == 0.0) return yarn_scale(1.0, config.factor);
  return yarn_scale(config.mscale, config.factor) / yarn_scale(config.mscale_all_dim, config.factor);
}

double latent_score_factor(const RopeConfig& config) {
  if (config.scaling != RopeScaling::kYarn || config.mscale_all_dim == 0.0) return 1.0;
  const double scale = yarn_scale(config.mscale_all_dim, config.factor);
  return scale * scale;
}

RotaryTable::RotaryTable(int64_t max_positions, int64_t rotary_dim, double theta, const RopeConfig& config)
    : interleaved_(config.interleaved) {
  TORCH_CHECK(rotary_dim % 2 == 0, "RotaryTable: the rotated width must be even, got ", rotary_dim);
  const auto angle = at::outer(at::arange(max_positions, at::kDouble), rotary_frequencies(rotary_dim, theta, config));
  const double factor = rotary_attention_factor(config);
  cos_Sd_ = at_both_places(angle.cos() * factor, 1.0, interleaved_);
  sin_Sd_ = at_both_places(angle.sin() * factor, -1.0, interleaved_);
}

at::Tensor RotaryTable::rotate(const at::Tensor& x_BHSd) const {
  const int64_t positions = x_BHSd.size(2), rotary_dim = cos_Sd_.size(-1), d = x_BHSd.size(3);
  TORCH_CHECK(positions <= cos_Sd_.size(-2), "RotaryTable: ", positions, " positions, the table holds ", cos_Sd_.size(-2));
  if (kernels::has_kernels(x_BHSd) && cos_Sd_.is_cpu()) return Rotate::apply(x_BHSd, cos_Sd_, sin_Sd_, interleaved_);
  const auto wide = widen(x_BHSd.narrow(3, 0, rotary_dim));
  const auto cos = cos_Sd_.narrow(-2, 0, positions).to(wide.options());
  const auto sin = sin_Sd_.narrow(-2, 0, positions).to(wide.options());
  const auto turned = (wide * cos + swap_pairs(wide) * sin).to(x_BHSd.scalar_type());
  return rotary_dim == d ? turned : at::cat({turned, x_BHSd.narrow(3, rotary_dim, d - rotary_dim)}, 3);
}

/// (a, b) -> (b, a)
at::Tensor RotaryTable::swap_pairs(const at::Tensor& x) const {
  if (interleaved_) return x.unflatten(-1, {-1, 2}).flip(-1).flatten(-2);
  const int64_t half = x.size(-1) / 2;
  return at::cat({x.narrow(-1, half, half), x.narrow(-1, 0, half)}, -1);
}

RotaryTable RotaryTable::from_position(int64_t first) const {
  RotaryTable table = *this;
  for (auto* rows : {&table.cos_Sd_, &table.sin_Sd_}) *rows = rows->narrow(-2, first, rows->size(-2) - first);
  return table;
}

RotaryTable RotaryTable::at_positions(const at::Tensor& position_BS) const {
  const int64_t B = position_BS.size(0), S = position_BS.size(1);
  RotaryTable table = *this;
  for (auto* rows : {&table.cos_Sd_, &table.sin_Sd_}) *rows = rows->index_select(0, position_BS.flatten()).view({B, 1, S, -1});
  return table;
}

void RotaryTable::move_to(at::Device device) {
  cos_Sd_ = cos_Sd_.to(device);
  sin_Sd_ = sin_Sd_.to(device);
}

}  // namespace switchyard
