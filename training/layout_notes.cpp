#include "training/layout_notes.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "core/balance.h"

namespace switchyard {
namespace {

/// Mean of max(X - slots, 0) / mean, X being Poisson: the share that an expert drops when every token chooses at random.
double share_dropped_by_chance(double mean, double slots) {
  double probability = std::exp(-mean), kept = 0.0, seen = 0.0;
  for (double n = 0.0; n < slots; ++n) {
    kept += n * probability;
    seen += probability;
    probability *= mean / (n + 1.0);
  }
  kept += slots * (1.0 - seen);
  return 1.0 - kept / mean;
}

/// One note a scope, for the terms that have it.
void note_scope(const std::string& terms, AuxLossScope scope, const RunConfig& config, int64_t world_size,
                std::vector<std::string>& notes) {
  const int64_t micro = config.training.micro_batch_size, ranks = std::max<int64_t>(world_size, 1);
  const int64_t accumulation = config.training.global_batch_size / (micro * ranks);
  switch (scope) {
    case AuxLossScope::kMicroBatch:
      notes.push_back(fmt::format(
          "scope micro_batch ({}) depends on the layout: balance is measured over each rank's micro-batch; only layouts with the "
          "same training.micro_batch_size, {}, agree",
          terms, micro));
      break;
    case AuxLossScope::kRunning:
      notes.push_back(fmt::format(
          "scope running ({}) depends on the layout: balance is measured over the step's micro-batches so far; only layouts with "
          "the same training.micro_batch_size x ranks{} agree",
          terms, world_size > 0 ? fmt::format(", {},", micro * world_size) : ""));
      break;
    case AuxLossScope::kGlobalBatch:
      if (accumulation < 2) break;
      notes.push_back(
          fmt::format("scope global_batch ({}) with {} micro-batches a rank: each step makes one more forward without gradients, to count "
                      "first; lagged and running do without",
                      terms, accumulation));
      break;
    case AuxLossScope::kSequence:
    case AuxLossScope::kLagged:
      break;
  }
}

void note_scopes(const RunConfig& config, int64_t world_size, std::vector<std::string>& notes) {
  std::map<AuxLossScope, std::string> terms;
  for (const auto& term : balance_terms(config.model)) {
    if (term.linear || term.coefficient.is_zero()) continue;
    auto& names = terms[term.scope];
    names += (names.empty() ? "" : ", ") + term.name;
  }
  for (const auto& [scope, names] : terms) note_scope(names, scope, config, world_size, notes);
}

void note_rule(const RunConfig& config, std::vector<std::string>& notes) {
  const auto& moe = *config.model.moe;
  const auto& rule = routing_rules().at(moe.router);
  if (rule.looks_ahead) {
    notes.push_back(
        fmt::format("model.moe.router = {}: which experts a token visits depends on the tokens behind it, so a causal model's "
                    "losses are better than what it could predict, and it cannot generate",
                    moe.router));
  }
  if (rule.compares_tokens && moe.capacity_group.sequences == 0) {
    notes.push_back(
        fmt::format("model.moe.capacity_group = micro_batch depends on the layout: the tokens of a rank's micro-batch compete "
                    "for experts; only layouts with the same training.micro_batch_size, {}, agree",
                    config.training.micro_batch_size));
  }
}

void note_capacity(const RunConfig& config, std::vector<std::string>& notes) {
  const auto& moe = *config.model.moe;
  if (!moe.capacity_factor) return;
  const int64_t micro = config.training.micro_batch_size, given = moe.capacity_group.sequences;
  if (given == 0) {
    notes.push_back(
        fmt::format("model.moe.capacity_group = micro_batch depends on the layout: a rank's micro-batch competes for slots; "
                    "only layouts with the same training.micro_batch_size, {}, agree",
                    micro));
  }
  const int64_t tokens = (given == 0 ? micro : given) * config.sequence_length();
  const double mean = static_cast<double>(tokens * moe.top_k) / static_cast<double>(moe.num_experts);
  const double slots = std::max(std::ceil(*moe.capacity_factor * mean - 1e-9), static_cast<double>(moe.min_capacity));
  constexpr double kWorthANote = 0.05, kLargeMean = 500.0;  // at large means and with many slots, chance drops next to nothing
  if (mean > kLargeMean || slots > 2.0 * kLargeMean) return;
  const double share = share_dropped_by_chance(mean, slots);
  if (share < kWorthANote) return;
  notes.push_back(fmt::format(
      "model.moe.capacity_group: {} tokens are {:.3g} assignments an expert for {:.0f} slots; even a router without preferences "
      "drops about {:.0f} %; larger groups or a larger model.moe.capacity_factor drop less",
      tokens, mean, slots, 100.0 * share));
}

}  // namespace

std::vector<std::string> layout_notes(const RunConfig& config, int64_t world_size) {
  std::vector<std::string> notes;
  if (!config.model.moe) return notes;
  note_scopes(config, world_size, notes);
  note_rule(config, notes);
  if (!routing_rules().at(config.model.moe->router).fills_capacity) note_capacity(config, notes);
  return notes;
}

}  // namespace switchyard
