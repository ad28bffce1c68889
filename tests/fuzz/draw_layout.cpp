#include "core/balance.h"
#include "parallel/machine_grid.h"
#include "tests/fuzz/draw_case.h"
#include "training/run_config_checks.h"

namespace switchyard {
namespace {

std::vector<int64_t> divisors(int64_t value, int64_t most) {
  std::vector<int64_t> all;
  for (int64_t i = 1; i <= std::min(value, most); ++i) {
    if (value % i == 0) all.push_back(i);
  }
  return all;
}

/// As many ranks of every expert group on each machine, for groups of consecutive ranks or of every n-th one.
bool machines_are_alike(const LayoutCase& layout) {
  const int64_t degree = layout.parallel.expert, num_groups = layout.ranks / degree;
  for (int64_t g = 0; g < num_groups; ++g) {
    std::vector<int64_t> nodes;
    for (int64_t e = 0; e < degree; ++e) {
      const int64_t rank = layout.parallel.rank_order == RankOrder::kExpertInner ? g * degree + e : e * num_groups + g;
      nodes.push_back(layout.ranks_per_node > 0 ? rank / layout.ranks_per_node : 0);
    }
    if (!arrange_in_grid(nodes)) return false;
  }
  return true;
}

void draw_experts(Draws& draws, LayoutCase& layout, bool as_threads) {
  auto& parallel = layout.parallel;
  const int64_t num_experts = layout.model.moe->num_experts;
  std::vector<int64_t> degrees;
  for (const int64_t degree : divisors(layout.ranks, layout.ranks)) {
    if (num_experts % degree == 0) degrees.push_back(degree);
  }
  parallel.expert = draws.percent(30) ? degrees.back() : draws.one_of(degrees);
  parallel.rank_order = draws.one_of({RankOrder::kExpertInner, RankOrder::kExpertOuter});
  parallel.dispatch_chunks = draws.percent(50) ? 1 : draws.between(1, num_experts / parallel.expert);
  parallel.overlap_shared_expert = draws.percent(50);
  if (as_threads) layout.ranks_per_node = draws.percent(40) ? 0 : draws.one_of(divisors(layout.ranks, layout.ranks));
  parallel.all_to_all = draws.one_of({AllToAllKind::kAuto, AllToAllKind::kFlat});
  if (machines_are_alike(layout) && draws.percent(40)) parallel.all_to_all = AllToAllKind::kHierarchical;
  if (draws.percent(25)) layout.recompute = Recompute::kMoe;
}

void draw_reductions(Draws& draws, ParallelConfig& parallel) {
  parallel.zero_stage = draws.percent(50) ? 1 : 0;
  parallel.gradient_bucket_size = draws.one_of<int64_t>({0, 0, 61, 64, 333, 1000, 5000});
  parallel.overlap_gradient_sync = draws.percent(50);
}

void check_that_it_is_a_run(const LayoutCase& layout) {
  RunConfig config;
  config.name = "fuzz";
  config.model = layout.model;
  config.parallel = layout.parallel;
  config.data = layout.documents;
  config.data.format = DataFormat::kTokens;
  config.training.steps = layout.steps;
  config.training.global_batch_size = layout.global_batch_size;
  config.training.micro_batch_size = layout.micro_batch_size;
  config.training.recompute = layout.recompute;
  std::string faults;
  for (const auto& fault : find_faults(config.model)) faults += fault.key + " " + fault.problem + "\n";
  for (const auto& fault : find_run_faults(config, layout.ranks)) faults += fault.key + " " + fault.problem + "\n";
  TORCH_CHECK(faults.empty(), "the fuzz has drawn what no configuration may say: ", faults);
}

int64_t reference_micro_batch(const LayoutCase& layout) {
  bool by_micro_batch = group_sequences(layout.model) == 0;
  for (const auto& term : balance_terms(layout.model)) {
    if (term.scope == AuxLossScope::kRunning) return layout.micro_batch_size * layout.ranks;
    by_micro_batch = by_micro_batch || term.scope == AuxLossScope::kMicroBatch;
  }
  return by_micro_batch ? layout.micro_batch_size : layout.global_batch_size;
}

}  // namespace

int64_t processes_of_case(int64_t index) {
  return index % 10 == 9 ? 1 + index / 10 % 4 : 0;
}

LayoutCase draw_layout(Draws& draws, const LayoutCase& job, int64_t ranks) {
  constexpr int64_t kMostThreads = 8;
  LayoutCase layout = job;
  const int64_t least_micro_batch = std::max<int64_t>(1, group_sequences(job.model));
  const auto rank_counts = divisors(job.global_batch_size / least_micro_batch, kMostThreads);
  layout.ranks = ranks > 0 ? ranks : draws.percent(25) ? rank_counts.back() : draws.one_of(rank_counts);
  const auto accumulations = divisors(job.global_batch_size / least_micro_batch / layout.ranks, job.global_batch_size);
  layout.micro_batch_size = job.global_batch_size / layout.ranks / draws.one_of(accumulations);
  if (job.model.moe) draw_experts(draws, layout, /*as_threads=*/ranks == 0);
  draw_reductions(draws, layout.parallel);
  if (layout.recompute == Recompute::kNone && draws.percent(25)) layout.recompute = Recompute::kBlock;
  check_that_it_is_a_run(layout);
  return layout;
}

LayoutCase plain_form_of(const LayoutCase& layout) {
  LayoutCase plain = layout;
  plain.parallel = {.expert = layout.parallel.expert, .rank_order = layout.parallel.rank_order};
  plain.parallel.gradient_bucket_size = 0;
  plain.parallel.overlap_shared_expert = false;
  plain.recompute = Recompute::kNone;
  return plain;
}

LayoutCase reference_of(const LayoutCase& layout) {
  LayoutCase reference = layout;
  reference.ranks = 1;
  reference.ranks_per_node = 0;
  reference.parallel = {};
  reference.recompute = Recompute::kNone;
  reference.micro_batch_size = reference_micro_batch(layout);
  return reference;
}

FuzzCase draw_case(uint64_t seed, int64_t index) {
  Draws draws(seed, static_cast<uint64_t>(index));
  FuzzCase drawn{.seed = seed, .index = index, .processes = processes_of_case(index)};
  drawn.job = draw_job(draws, drawn.processes);
  const int64_t num_layouts = drawn.processes > 0 ? 2 : 3;
  for (int64_t i = 0; i < num_layouts; ++i) drawn.layouts.push_back(draw_layout(draws, drawn.job, drawn.processes));
  drawn.repeats_last = drawn.job.dtype == at::kBFloat16 || draws.percent(25);
  return drawn;
}

}  // namespace switchyard
