#include "core/rotary.h"

#include "core/dtypes.h"

namespace switchyard {

RotaryTable::RotaryTable(int64_t max_positions, int64_t head_dim, double theta) {
  TORCH_CHECK(head_dim % 2 == 0, "RotaryTable: head_dim must be even, got ", head_dim);
  const auto pair = at::arange(0, head_dim, 2, at::kDouble);
  const auto frequency = at::pow(theta, -pair / static_cast<double>(head_dim));
  const auto angle = at::outer(at::arange(max_positions, at::kDouble), frequency);
  cos_Sd_ = at::cat({angle.cos(), angle.cos()}, 1);
  sin_Sd_ = at::cat({-angle.sin(), angle.sin()}, 1);
}

at::Tensor RotaryTable::rotate(const at::Tensor& x_BHSd) const {
  const int64_t positions = x_BHSd.size(2);
  TORCH_CHECK(positions <= cos_Sd_.size(-2), "RotaryTable: ", positions, " positions, the table holds ", cos_Sd_.size(-2));
  const auto wide = widen(x_BHSd);
  const auto cos = cos_Sd_.narrow(-2, 0, positions).to(wide.options());
  const auto sin = sin_Sd_.narrow(-2, 0, positions).to(wide.options());
  const int64_t half = wide.size(3) / 2;
  const auto swapped = at::cat({wide.narrow(3, half, half), wide.narrow(3, 0, half)}, 3);  // (a, b) -> (b, a)
  return (wide * cos + swapped * sin).to(x_BHSd.scalar_type());
}

RotaryTable RotaryTable::at_positions(const at::Tensor& position_BS) const {
  if (!position_BS.defined()) return *this;
  const int64_t B = position_BS.size(0), S = position_BS.size(1);
  const auto rows_of = [&](const at::Tensor& table_Sd) { return table_Sd.index_select(0, position_BS.flatten()).view({B, 1, S, -1}); };
  RotaryTable table;
  table.cos_Sd_ = rows_of(cos_Sd_);
  table.sin_Sd_ = rows_of(sin_Sd_);
  return table;
}

void RotaryTable::move_to(at::Device device) {
  cos_Sd_ = cos_Sd_.to(device);
  sin_Sd_ = sin_Sd_.to(device);
}

}  // namespace switchyard
