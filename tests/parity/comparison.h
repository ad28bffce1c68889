// A model of Hugging Face's, computed here and by transformers: scripts/make_hf_fixtures.py wrote the folder and what comes out of it.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "training/hf_family.h"

namespace switchyard {

/// What is compared.
enum class ParityQuantity { kLogits, kRouterLogits, kLoss, kAuxLoss, kGradients };

struct ParityRule {
  ParityQuantity quantity;
  const char* name;
  double limit;
};

/// Largest absolute differences, in fp32; of gradients the largest ||ours - theirs|| / ||theirs|| of a tensor (theirs being at least 1e-4
/// of the largest tensor's: next to nothing is compared with that). Loss: the cross entropy alone and with the balancing loss. Aux loss: of
/// all tokens and of those that a mask leaves.
constexpr std::array<ParityRule, 5> kParityRules = {{{ParityQuantity::kLogits, "logits", 2e-5},
                                                     {ParityQuantity::kRouterLogits, "router logits", 2e-5},
                                                     {ParityQuantity::kLoss, "loss", 1e-5},
                                                     {ParityQuantity::kAuxLoss, "aux loss", 1e-5},
                                                     {ParityQuantity::kGradients, "gradients", 5e-5}}};

/// The worst of each quantity, in the order of kParityRules; none where neither side has it.
struct ParityResult {
  HfFamily family;
  std::array<std::optional<double>, kParityRules.size()> worst = {};

  void take(ParityQuantity quantity, double difference);
  std::optional<double> of(ParityQuantity quantity) const { return worst[static_cast<size_t>(quantity)]; }
  /// What lies beyond its limit, in words; NaN does.
  std::vector<std::string> misses() const;
};

/// Builds the model of the folder in fp32, loads it and computes everything that expected.safetensors holds. Errors: UserError where the
/// folder cannot be read (HfCheckpoint), c10::Error where expected.safetensors lacks something that the model has, or the other way round.
ParityResult compare_with_transformers(const std::filesystem::path& folder);

/// The folders inside `folder` with an expected.safetensors, by name.
std::vector<std::filesystem::path> parity_folders(const std::filesystem::path& folder);

}  // namespace switchyard
