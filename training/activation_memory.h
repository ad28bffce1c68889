// What a micro-batch's forward keeps for its backward, by formula.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/execution_config.h"
#include "core/model_config.h"

namespace switchyard {

struct ActivationBytes {
  double kept = 0.0;       ///< of all blocks, until backward has passed them
  double one_block = 0.0;  ///< gradients of the block under way, and what recomputation makes again of it
  double loss = 0.0;       ///< the logits of a chunk, the gradients of the hidden states and of the output map

  double total() const { return kept + one_block + loss; }
};

/// For `tokens` tokens on this rank, when every expert gets equally many. Left out: the probabilities that attention with sinks keeps, and
/// on a GPU attention with a mask.
ActivationBytes activation_bytes(const ModelConfig& config, int64_t tokens, at::ScalarType dtype, Recompute recompute);

}  // namespace switchyard
