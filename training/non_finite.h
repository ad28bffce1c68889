// Finds infinities and NaNs at memory speed, without temporaries.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Flat index of the first element that is infinite or not a number; none for integer dtypes. `tensor`: contiguous, CPU.
std::optional<int64_t> first_non_finite(const at::Tensor& tensor);

}  // namespace switchyard
