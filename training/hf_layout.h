// Hugging Face checkpoint layouts: which of their tensors is which part of ours. One table serves both directions.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/model_config.h"
#include "training/hf_family.h"

namespace switchyard {

/// One of their tensors: a part of ours, elements [begin, begin + numel) of it, or the whole of ours in another order.
struct HfTensor {
  std::string name;            ///< theirs
  std::vector<int64_t> shape;  ///< theirs
  std::string ours;            ///< global name, of a parameter or a router's selection bias
  std::vector<int64_t> our_shape;
  int64_t begin = 0;                  ///< first element in our flattened tensor
  std::vector<int64_t> view = {};     ///< theirs, with dimensions split where that is needed...
  std::vector<int64_t> strides = {};  ///< ... and where these lie in ours. Empty: contiguous

  /// Theirs, as a view into our flattened tensor (or the part of it that starts at element `first`), in the shape view().
  at::Tensor in(const at::Tensor& ours_flat, int64_t first = 0) const;
  int64_t numel() const;
  /// `shape`, split as in() gives it.
  const std::vector<int64_t>& view_shape() const { return strides.empty() ? shape : view; }
};

/// How the experts of a block stand in files: as save_pretrained writes them, or stacked as transformers 5 holds them in memory
/// (save_original_format=False). The same for Llama 4 and gpt-oss.
enum class HfExperts { kAsSaved, kStacked };

/// All tensors of the model, in a fixed order. Every element of ours but those of multi-token prediction stands in one of them.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, HfFamily family, HfExperts experts = HfExperts::kAsSaved);

}  // namespace switchyard
