#include "training/mixture_study.h"

#include <algorithm>
#include <set>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/optim/adam.h>

#include "core/adaptive_mixture.h"
#include "core/host_copy.h"

namespace switchyard {
namespace {

struct Cases {
  at::Tensor x_T1;
  at::Tensor piece_T;
  at::Tensor target_T1;
};

/// Pieces of equal width; slopes 2 and -2 in turn, so that no line serves two neighbours, and two levels.
Cases make_cases(const MixtureStudyConfig& config) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(config.seed));
  const auto P = static_cast<double>(config.pieces);
  const auto x_T1 = at::empty({config.cases, 1}, at::kDouble).uniform_(-1.0, 1.0, generator);
  const auto piece_T1 = ((x_T1 + 1.0) * (P / 2.0)).floor().clamp(0.0, P - 1.0);
  const auto slope_T1 = 2.0 - 4.0 * piece_T1.remainder(2.0);
  const auto level_T1 = 0.5 - piece_T1.remainder(4.0).div(2.0, "floor");
  const auto centre_T1 = (piece_T1 + 0.5) * (2.0 / P) - 1.0;
  const auto noise_T1 = at::empty_like(x_T1).normal_(0.0, config.noise, generator);
  return {x_T1, piece_T1.squeeze(1).to(at::kLong), slope_T1 * (x_T1 - centre_T1) + level_T1 + noise_T1};
}

/// [pieces, experts]: how many cases of a piece the gate gives to an expert.
at::Tensor count_cases(const at::Tensor& piece_T, const at::Tensor& expert_T, const MixtureStudyConfig& config) {
  const int64_t E = config.num_experts;
  return at::bincount(piece_T * E + expert_T, {}, config.pieces * E).view({config.pieces, E});
}

MixtureStudyResult measure(const MixtureOutput& output, const Cases& cases, const MixtureStudyConfig& config) {
  MixtureStudyResult result;
  const auto expert_T = output.log_gate_TE.argmax(1);
  const auto said_T1 = output.output_TEO.squeeze(2).gather(1, expert_T.unsqueeze(1));
  result.squared_error = (cases.target_T1 - said_T1).square().mean().item<double>();
  const auto counts_PE = count_cases(cases.piece_T, expert_T, config);
  const auto [most_P, owner_P] = counts_PE.max(1);
  result.separation = most_P.sum().item<double>() / static_cast<double>(config.cases);
  std::set<int64_t> owners;
  for (int64_t piece = 0; piece < config.pieces; ++piece) {
    owners.insert(owner_P[piece].item<int64_t>());
    result.cases_by_expert.push_back(whole_numbers(counts_PE[piece]));
  }
  result.num_owners = static_cast<int64_t>(owners.size());
  return result;
}

}  // namespace

MixtureStudyResult run_mixture_study(const MixtureStudyConfig& config) {
  const auto cases = make_cases(config);
  AdaptiveMixture mixture(config.num_experts, 1, 1, static_cast<uint64_t>(config.seed));
  torch::optim::Adam optimizer(mixture->parameters(), torch::optim::AdamOptions(config.learning_rate));
  const auto loss_of = config.loss == MixtureLoss::kCompetitive ? competitive_mixture_loss : cooperative_mixture_loss;
  for (int64_t step = 0; step < config.steps; ++step) {
    optimizer.zero_grad();
    loss_of(mixture->forward(cases.x_T1), cases.target_T1, config.sigma).backward();
    optimizer.step();
  }
  at::NoGradGuard no_grad;
  const auto output = mixture->forward(cases.x_T1);
  auto result = measure(output, cases, config);
  result.loss = loss_of(output, cases.target_T1, config.sigma).item<double>();
  return result;
}

}  // namespace switchyard
