// The model families of Hugging Face transformers that this program knows.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/attention_config.h"

namespace switchyard {

enum class HfFamily {
  kLlama,
  kMistral,
  kOlmo2,
  kQwen3,
  kMixtral,
  kQwen2Moe,
  kQwen3Moe,
  kOlmoe,
  kFlexOlmo,
  kDeepseekV2,
  kDeepseekV3,
  kLlama4Text,
  kGptOss
};

/// What a family's class in transformers 5 fixes, and what it takes for a key that config.json lacks.
struct HfClass {
  HfFamily family;
  const char* model_type;    ///< as in config.json
  const char* architecture;  ///< its class for causal language modelling
  double rope_theta;
  double norm_eps;
  std::optional<int64_t> key_value_heads;  ///< none: as many as query heads
  std::optional<int64_t> head_dim;         ///< none: hidden_size / heads
  QkNorm qk_norm;
  bool norms_outputs;
  bool interleaves_rope;
};

/// One of each family, in the order of HfFamily.
const std::array<HfClass, 13>& hf_classes();

const HfClass& hf_class(HfFamily family);
/// Errors: UserError for a model_type that is not known; it lists those that are.
const HfClass& hf_class(const std::string& model_type);

}  // namespace switchyard
