// Where one part of a pass ends and the next begins, for observers that tell how long each takes.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/phase_observer.h"
#include "core/routing/routing.h"

namespace switchyard {

/// x, the same values: forward enters `after` here, backward enters the backward of `before`. Nothing where nobody observes.
at::Tensor phase_boundary(const at::Tensor& x, const TokenContext& context, Phase before, Phase after);

}  // namespace switchyard
