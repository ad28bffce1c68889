#include "tests/fuzz/near_ties.h"

namespace switchyard {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// One block of one step: what both runs did with the unmasked tokens. U tokens.
struct Block {
  at::Tensor choice_UK, other_choice_UK;
  at::Tensor kept_UK, other_kept_UK;
  at::Tensor score_UE;
  at::Tensor sample_U;
};

Block block_of(const LayoutCase& job, const at::Tensor& seen_GSC, const at::Tensor& other_GSC) {
  const RoutingColumns columns(*job.model.moe);
  const auto real = [&](const at::Tensor& seen) { return seen.flatten(0, 1).index({job.mask_GS.flatten()}); };
  const auto mine = real(seen_GSC), other = real(other_GSC);
  const auto sample_GS = at::arange(job.global_batch_size, at::kLong).unsqueeze(1).expand_as(job.mask_GS);
  return {mine.narrow(1, columns.choice(), columns.choices).to(at::kLong),
          other.narrow(1, columns.choice(), columns.choices).to(at::kLong),
          mine.narrow(1, columns.kept(), columns.choices),
          other.narrow(1, columns.kept(), columns.choices),
          mine.narrow(1, columns.score(), columns.experts),
          sample_GS.reshape({-1}).index({job.mask_GS.flatten()})};
}

/// The largest margin of the tokens that chose otherwise, against the scale of their scores: the range, or where the tokens of a group are
/// balanced against each other, so that all scores of equal tokens become equal, the size.
double choice_margin(const Block& block, const at::Tensor& flipped_U, bool balanced) {
  const auto logit_UE = block.score_UE.index({flipped_U});
  const auto mine_UK = logit_UE.gather(1, block.choice_UK.index({flipped_U}));
  const auto other_UK = logit_UE.gather(1, block.other_choice_UK.index({flipped_U}));
  const auto scale_U = balanced ? logit_UE.abs().amax(1) : logit_UE.amax(1) - logit_UE.amin(1);
  const auto margin_U = (mine_UK - other_UK).abs().amax(1) / scale_U;
  return margin_U.nan_to_num(kInfinity).max().item<double>();
}

/// The largest difference of the values that competed for an expert of a group, over the groups where something flipped.
double queue_margin(const LayoutCase& job, const Block& block, const at::Tensor& flipped_UK, const at::Tensor& expert_UK,
                    const at::Tensor& value_UK) {
  const auto& moe = *job.model.moe;
  const int64_t group = moe.capacity_group.sequences > 0 ? moe.capacity_group.sequences : job.micro_batch_size;
  const auto queue_UK = block.sample_U.div(group, "floor").unsqueeze(1) * moe.num_experts + expert_UK;
  const auto queues = queue_UK.index({flipped_UK}), weights = value_UK.index({flipped_UK});
  double margin = 0.0;
  for (int64_t i = 0; i < queues.size(0); ++i) {
    const auto rivals = weights.index({queues.eq(queues[i])});
    // One that flipped alone had no rival.
    margin = rivals.size(0) < 2 ? kInfinity : std::max(margin, (rivals.max() - rivals.min()).item<double>());
    if (margin == kInfinity) break;
  }
  return margin;
}

/// Known for the rules that drop by a softmax's weights.
double drop_margin(const LayoutCase& job, const Block& block, const at::Tensor& flipped_UK) {
  const auto& moe = *job.model.moe;
  const bool by_score = moe.drop_order == DropOrder::kChoiceScorePosition || moe.drop_order == DropOrder::kScorePosition;
  if (!by_score || moe.router != "top_k") return kInfinity;
  const auto score_UE = moe.score == ScoreFunction::kSoftmax ? block.score_UE.softmax(1) : block.score_UE;
  auto weight_UK = score_UE.gather(1, block.choice_UK);
  if (moe.renormalize) weight_UK = weight_UK / weight_UK.sum(1, /*keepdim=*/true);
  return queue_margin(job, block, flipped_UK, block.choice_UK, weight_UK);
}

/// Where experts choose, choice i of a token is expert i, or nobody.
double taken_margin(const LayoutCase& job, const Block& block) {
  const auto expert_E = at::arange(job.model.moe->num_experts, at::kLong);
  return queue_margin(job, block, block.choice_UK.ne(block.other_choice_UK), expert_E.expand_as(block.choice_UK),
                      block.score_UE.softmax(1));
}

std::optional<Flip> flip_of(const LayoutCase& job, const Block& block, double bound) {
  const auto chose_otherwise_U = block.choice_UK.ne(block.other_choice_UK).any(1);
  const auto dropped_otherwise_UK = block.kept_UK.ne(block.other_kept_UK);
  const bool choices = chose_otherwise_U.any().item<bool>(), drops = dropped_otherwise_UK.any().item<bool>();
  if (!choices && !drops) return std::nullopt;
  Flip flip;
  // Where choices flipped, other drops follow from them.
  flip.num_tokens = (choices ? chose_otherwise_U : dropped_otherwise_UK.any(1)).sum().item<int64_t>();
  const bool experts_choose = routing_rules().at(job.model.moe->router).fills_capacity;
  flip.margin = !choices         ? drop_margin(job, block, dropped_otherwise_UK)
                : experts_choose ? taken_margin(job, block)
                                 : choice_margin(block, chose_otherwise_U, routing_rules().at(job.model.moe->router).compares_tokens);
  flip.is_near_tie = flip.margin < bound;
  return flip;
}

}  // namespace

std::string Flip::describe() const {
  return c10::str("step ", step, ", block ", layer, ": ", num_tokens, " tokens chose or were dropped otherwise, margin ", margin);
}

std::optional<Flip> first_flip(const LayoutCase& job, const LoggedRun& reference, const LoggedRun& other, int64_t num_steps, double bound) {
  if (!reference.seen_NLGSC.defined()) return std::nullopt;
  for (int64_t step = 0; step < num_steps; ++step) {
    for (int64_t layer = 0; layer < job.model.num_blocks(); ++layer) {
      if (!job.model.is_moe_layer(layer)) continue;
      auto flip = flip_of(job, block_of(job, reference.seen_NLGSC[step][layer], other.seen_NLGSC[step][layer]), bound);
      if (!flip) continue;
      flip->step = step + 1;
      flip->layer = layer;
      return flip;
    }
  }
  return std::nullopt;
}

}  // namespace switchyard
