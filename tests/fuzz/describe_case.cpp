#include "core/balance.h"
#include "tests/fuzz/draw_case.h"

namespace switchyard {
namespace {

const char* name_of(AuxLossScope scope) {
  switch (scope) {
    case AuxLossScope::kSequence:
      return "sequence";
    case AuxLossScope::kMicroBatch:
      return "micro_batch";
    case AuxLossScope::kRunning:
      return "running";
    case AuxLossScope::kLagged:
      return "lagged";
    case AuxLossScope::kGlobalBatch:
      break;
  }
  return "global_batch";
}

const char* name_of(DropOrder order) {
  return order == DropOrder::kChoicePosition  ? "[choice, position]"
         : order == DropOrder::kScorePosition ? "[score, position]"
         : order == DropOrder::kRandom        ? "chance"
                                              : "[choice, score, position]";
}

std::string describe_router(const MoeConfig& moe) {
  auto text = moe.router;
  if (moe.score == ScoreFunction::kSigmoid) text += " of sigmoids";
  if (moe.bias_update > 0) text += c10::str(" with bias by ", moe.bias_update);
  if (moe.groups > 1) text += c10::str(" in ", moe.group_top_k, " of ", moe.groups, " groups");
  if (moe.group_score == GroupScore::kBestTwo) text += " by their best two";
  return text;
}

std::string describe_terms(const ModelConfig& model) {
  std::string text;
  for (const auto& term : balance_terms(model)) {
    text += c10::str(", ", term.name);
    for (const auto& [step, coefficient] : term.coefficient.points) text += c10::str(" ", coefficient);
    if (!term.linear) text += c10::str(" over ", name_of(term.scope));
  }
  return text;
}

std::string describe_moe(const ModelConfig& model) {
  const auto& moe = *model.moe;
  std::string blocks;
  for (int64_t layer = 0; layer < model.num_blocks(); ++layer) blocks += model.is_moe_layer(layer) ? "M" : "d";
  auto text = c10::str(", ", describe_router(moe), ", ", moe.top_k, " of ", moe.num_experts, " experts of width ", moe.ffn_hidden_size,
                       " in ", blocks);
  if (moe.nested_experts > 0) text += c10::str(", ", moe.nested_top_k, " of ", moe.nested_experts, " experts inside each");
  if (moe.renormalize) text += ", renormalised";
  if (moe.shared_expert_ffn_hidden_size > 0) {
    text += c10::str(", shared expert ", moe.shared_expert_ffn_hidden_size, moe.shared_expert_gate ? " with gate" : "",
                     moe.residual ? " mixed in" : "");
  }
  text += c10::str(", activation ", static_cast<int>(moe.activation));
  if (moe.expert_bias) text += ", expert biases";
  if (moe.expert_dropout > 0.0) text += c10::str(", expert dropout ", moe.expert_dropout);
  if (moe.scale != 1.0) text += c10::str(", scaled by ", moe.scale);
  if (moe.apply == ApplyWeight::kInput) text += ", weights on the inputs";
  if (moe.router_bias) text += ", router bias";
  text += describe_terms(model);
  if (moe.aux_loss_form == AuxLossForm::kHuggingFace) text += ", pooled";
  if (moe.aux_loss_counts == AuxLossCounts::kFirstChoice) text += ", first choices";
  if (moe.input_jitter > 0) text += c10::str(", jitter ", moe.input_jitter);
  if (moe.capacity_factor) {
    text += c10::str(", capacity ", *moe.capacity_factor, " a group of ", moe.capacity_group.sequences, ", at least ", moe.min_capacity,
                     ", drops by ", name_of(moe.drop_order));
  } else if (group_sequences(model) != 1) {
    text += c10::str(", groups of ", moe.capacity_group.sequences);
  }
  return text;
}

}  // namespace

std::string describe_job(const LayoutCase& job) {
  const auto& model = job.model;
  auto text = c10::str(c10::toString(job.dtype), ", batch ", job.global_batch_size, " x ", model.max_sequence_length, " (",
                       job.mask_GS.sum().item<int64_t>(), " real), ", job.steps, " steps, vocabulary ", model.vocab_size, ", width ",
                       model.hidden_size, ", heads ", model.num_attention_heads, "/", model.num_key_value_heads, " of ", model.head_dim,
                       ", ", model.num_layers, " blocks, init_std ", model.init_std);
  if (model.sequence_mixer == SequenceMixer::kLstm) text += ", LSTM";
  if (model.tie_embeddings) text += ", tied";
  text += describe_attention(model);
  if (model.norm_placement == NormPlacement::kPost) text += ", norms behind";
  if (model.ffn_bias) text += ", ffn_bias";
  if (model.mtp_layers > 0) text += c10::str(", ", model.mtp_layers, " prediction blocks");
  if (model.moe) text += describe_moe(model);
  if (job.documents.reset_attention_mask) text += c10::str(", attention within documents that end with ", job.end_of_document);
  if (job.documents.reset_position_ids) text += c10::str(", positions within documents that end with ", job.end_of_document);
  if (job.zero_routers) text += ", routers start at zero";
  return text + c10::str(", learning rate ", job.optimizer.learning_rate, ", clipped at ", job.optimizer.clip_grad_norm);
}

std::string describe_layout(const LayoutCase& layout) {
  const auto& parallel = layout.parallel;
  const int64_t accumulation = layout.global_batch_size / layout.ranks / layout.micro_batch_size;
  auto text = c10::str(layout.ranks, " ranks, expert ", parallel.expert, parallel.rank_order == RankOrder::kExpertOuter ? " (outer)" : "",
                       ", micro-batch ", layout.micro_batch_size, " x ", accumulation, ", zero ", parallel.zero_stage, ", buckets of ",
                       parallel.gradient_bucket_size, parallel.overlap_gradient_sync ? " overlapped" : "", ", ", parallel.dispatch_chunks,
                       " chunks");
  if (layout.ranks_per_node > 0) text += c10::str(", ", layout.ranks_per_node, " ranks a machine");
  if (parallel.all_to_all == AllToAllKind::kHierarchical) text += ", hierarchical";
  if (parallel.all_to_all == AllToAllKind::kFlat) text += ", flat";
  if (layout.recompute == Recompute::kMoe) text += ", MoE layers computed again";
  if (layout.recompute == Recompute::kBlock) text += ", blocks computed again";
  return text;
}

}  // namespace switchyard
