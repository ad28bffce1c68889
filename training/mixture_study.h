// The experiment of 1991 in small: cases of a piecewise linear function, and experts that share the pieces out among them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

enum class MixtureLoss { kCompetitive, kCooperative };

/// Keys of a configuration such as configs/adaptive_mixture.yaml.
struct MixtureStudyConfig {
  int64_t num_experts = 8;
  MixtureLoss loss = MixtureLoss::kCompetitive;
  double sigma = 0.2;  ///< standard deviation that the loss takes an expert's errors to have
  int64_t pieces = 4;  ///< of the function over [-1, 1]
  int64_t cases = 512;
  double noise = 0.05;  ///< standard deviation, on the targets
  int64_t steps = 1500;
  double learning_rate = 0.03;  ///< of Adam over all cases
  int64_t seed = 1;
};

/// Errors: UserError with one line a fault.
MixtureStudyConfig load_mixture_study(const std::string& path);

struct MixtureStudyResult {
  double loss = 0.0;
  double squared_error = 0.0;  ///< of the expert that the gate prefers, mean over cases
  double separation = 0.0;     ///< share of the cases that the gate gives to the expert which gets most of their piece
  int64_t num_owners = 0;      ///< different experts among those that get most of a piece; `pieces` = each has its own
  std::vector<std::vector<int64_t>> cases_by_expert;  ///< [pieces][num_experts]
};

MixtureStudyResult run_mixture_study(const MixtureStudyConfig& config);

}  // namespace switchyard
