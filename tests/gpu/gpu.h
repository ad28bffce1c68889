// The GPU that the tests of one process compute on.
#pragma once

#include <c10/core/Device.h>

namespace switchyard {

inline const at::Device kGpu(at::kCUDA, 0);

}  // namespace switchyard
