#include "tests/fuzz/draw_case.h"

namespace switchyard {
namespace {

using Tokens = std::vector<int64_t>;

LayerSet draw_moe_layers(Draws& draws, int64_t num_layers) {
  using enum LayerSet::Kind;
  const int64_t last = num_layers - 1;
  switch (draws.below(4)) {
    case 0:
      return {.kind = kEvery, .count = draws.between(1, num_layers), .list = {}};
    case 1:
      return {.kind = kFirstDense, .count = draws.between(0, last), .list = {}};
    case 2:
      return {.kind = kList, .count = 1, .list = last > 0 && draws.percent(50) ? Tokens{0, last} : Tokens{draws.between(0, last)}};
    default:
      return {};
  }
}

ModelConfig draw_model(Draws& draws, int64_t global_batch_size) {
  ModelConfig model;
  model.vocab_size = draws.between(global_batch_size + 2, 47);
  model.num_layers = draws.one_of<int64_t>({1, 1, 2, 2, 2, 3});
  model.hidden_size = draws.between(5, 16);
  model.ffn_hidden_size = draws.between(4, 20);
  model.num_key_value_heads = draws.between(1, 2);
  model.num_attention_heads = model.num_key_value_heads * draws.between(1, 2);
  if (draws.percent(10)) model.sequence_mixer = SequenceMixer::kLstm;
  model.head_dim = draws.one_of<int64_t>({2, 4, 6});
  model.max_sequence_length = draws.between(2, 9);
  model.init_std = draws.one_of({0.02, 0.2, 0.2, 0.2, 0.6});
  model.tie_embeddings = draws.percent(25);
  if (model.sequence_mixer == SequenceMixer::kAttention) draw_attention(draws, model);
  if (draws.percent(20)) model.norm_placement = NormPlacement::kPost;
  model.ffn_bias = draws.percent(15);
  if (draws.percent(20)) model.mtp_layers = draws.between(1, 2);
  if (draws.percent(8)) return model;
  model.moe = draw_moe(draws);
  model.moe->layers = draw_moe_layers(draws, model.num_layers);
  return model;
}

bool drops_by_score(const ModelConfig& model) {
  if (!model.moe || !model.moe->capacity_factor) return false;
  const auto order = model.moe->drop_order;
  return order == DropOrder::kChoiceScorePosition || order == DropOrder::kScorePosition;
}

/// Positions with equal histories are equal by mathematics, and rounding would decide which of them is dropped: a token must see all before
/// it, and draw_tokens() makes these differ.
void see_whole_histories(ModelConfig& model) {
  if (drops_by_score(model)) model.attention.window = model.attention.chunk = 0, model.attention.full_layers = LayerSet::none();
}

/// Even, mostly two tokens, or nothing but one.
at::Tensor draw_tokens(Draws& draws, const LayoutCase& job) {
  const int64_t G = job.global_batch_size, S1 = job.model.max_sequence_length + 1, V = job.model.vocab_size;
  const bool by_score = drops_by_score(job.model);
  const int64_t favourites = draws.one_of<int64_t>({0, 0, 0, 80, 80, by_score ? 80 : 100});
  const auto tokens_NGS = at::empty({job.steps, G, S1}, at::kLong);
  auto* token = tokens_NGS.mutable_data_ptr<int64_t>();
  for (int64_t window = 0; window < job.steps * G; ++window, token += S1) {
    for (int64_t s = 0; s < S1; ++s) token[s] = draws.percent(favourites) ? draws.below(favourites == 100 ? 1 : 2) : draws.below(V);
    if (!by_score) continue;
    // No two windows of a step begin with the same token, and none with a token twice.
    token[0] = window % G;
    if (token[1] == token[0]) token[1] = (token[0] + 1) % V;
  }
  return tokens_NGS;
}

/// One of the tokens that are drawn most often, mostly. Not with drops by score: documents that begin alike would be equal by mathematics.
void draw_documents(Draws& draws, LayoutCase& job) {
  if (drops_by_score(job.model) || draws.percent(65)) return;
  job.end_of_document = draws.percent(70) ? draws.below(2) : draws.below(job.model.vocab_size);
  job.documents.reset_attention_mask = draws.percent(70);
  job.documents.reset_position_ids = draws.percent(70);
}

/// Nothing, tails, or whole sequences are padding; never everything.
at::Tensor draw_mask(Draws& draws, const LayoutCase& job) {
  const int64_t G = job.global_batch_size, S = job.model.max_sequence_length;
  const auto mask_GS = at::ones({G, S}, at::kBool);
  const int64_t kind = draws.below(6);
  const int64_t first = draws.below(G), count = draws.between(1, G);
  for (int64_t g = 0; g < G; ++g) {
    const int64_t padding = kind < 3 ? 0 : kind == 3 ? draws.below(S + 1) : (g + first) % G < count ? S : 0;
    if (padding > 0) mask_GS[g].narrow(0, S - padding, padding).fill_(false);
  }
  if (!mask_GS.any().item<bool>()) mask_GS[first][0].fill_(true);
  return mask_GS;
}

}  // namespace

LayoutCase draw_job(Draws& draws, int64_t processes) {
  LayoutCase job;
  job.global_batch_size =
      processes > 0 ? processes * draws.between(1, 12 / processes) : draws.one_of<int64_t>({2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 12, 12, 16});
  job.micro_batch_size = job.global_batch_size;
  const int64_t precision = draws.below(20);
  job.dtype = precision < 16 ? at::kDouble : precision < 18 ? at::kFloat : at::kBFloat16;
  job.model = draw_model(draws, job.global_batch_size);
  see_whole_histories(job.model);
  auto& moe = job.model.moe;
  // The choices of gates inside experts are not logged, so that fp32 runs, in which they fall either way, cannot be told from wrong ones.
  if (moe && job.dtype != at::kDouble) moe->nested_experts = 0, moe->nested_loss_coeff = 0.0;
  const int64_t least = std::max<int64_t>(1, processes);
  if (moe && job.global_batch_size % (least * std::max<int64_t>(1, moe->capacity_group.sequences)) != 0) {
    moe->capacity_group.sequences = 1;  // no micro-batch of a whole number of groups would fit
  }
  job.zero_routers = moe && draws.percent(4);
  // From the second step on, experts that nobody chose have weights that are equal by mathematics only.
  job.steps = job.zero_routers ? 1 : 5;
  job.optimizer.learning_rate = draws.one_of({0.003, 0.01, 0.03});
  job.optimizer.clip_grad_norm = draws.one_of({0.05, 1.0, 1.0, 100.0});
  job.tokens_NGS = draw_tokens(draws, job);
  draw_documents(draws, job);
  job.mask_GS = draw_mask(draws, job);
  return job;
}

}  // namespace switchyard
