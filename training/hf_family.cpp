#include "training/hf_family.h"

#include "core/error.h"

namespace switchyard {

const std::array<HfClass, 13>& hf_classes() {
  using enum HfFamily;
  static const std::array<HfClass, 13> classes = {{
      {kLlama, "llama", "LlamaForCausalLM", 1e4, 1e-6, {}, {}, QkNorm::kNone, false, false},
      {kMistral, "mistral", "MistralForCausalLM", 1e4, 1e-6, 8, {}, QkNorm::kNone, false, false},
      {kOlmo2, "olmo2", "Olmo2ForCausalLM", 1e4, 1e-5, {}, {}, QkNorm::kWhole, true, false},
      {kQwen3, "qwen3", "Qwen3ForCausalLM", 1e4, 1e-6, 32, 128, QkNorm::kHead, false, false},
      {kMixtral, "mixtral", "MixtralForCausalLM", 1e6, 1e-5, 8, {}, QkNorm::kNone, false, false},
      {kQwen2Moe, "qwen2_moe", "Qwen2MoeForCausalLM", 1e4, 1e-6, 16, {}, QkNorm::kNone, false, false},
      {kQwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM", 1e4, 1e-6, 4, {}, QkNorm::kHead, false, false},
      {kOlmoe, "olmoe", "OlmoeForCausalLM", 1e4, 1e-5, {}, {}, QkNorm::kWhole, false, false},
      {kFlexOlmo, "flex_olmo", "FlexOlmoForCausalLM", 5e5, 1e-6, {}, {}, QkNorm::kWhole, true, false},
      {kDeepseekV2, "deepseek_v2", "DeepseekV2ForCausalLM", 1e4, 1e-6, {}, {}, QkNorm::kNone, false, true},
      {kDeepseekV3, "deepseek_v3", "DeepseekV3ForCausalLM", 1e4, 1e-6, {}, {}, QkNorm::kNone, false, true},
      {kLlama4Text, "llama4_text", "Llama4ForCausalLM", 5e5, 1e-5, 8, 128, QkNorm::kUnit, false, true},
      {kGptOss, "gpt_oss", "GptOssForCausalLM", 1.5e5, 1e-5, 8, 64, QkNorm::kNone, false, false},
  }};
  return classes;
}

const HfClass& hf_class(HfFamily family) {
  return hf_classes().at(static_cast<size_t>(family));
}

const HfClass& hf_class(const std::string& model_type) {
  std::string known;
  for (const auto& one : hf_classes()) {
    if (model_type == one.model_type) return one;
    known += (known.empty() ? "" : ", ") + std::string(one.model_type);
  }
  throw UserError("config.json: model_type = \"" + model_type + "\" is not a family that this program knows; it knows " + known);
}

}  // namespace switchyard
