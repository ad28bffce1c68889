#include "core/routing/routing_rule.h"
#include "training/config_section_keys.h"

namespace switchyard {
namespace {

constexpr int64_t kMaxLayers = 10'000;

bool has_moe(const RunConfig& config) {
  return config.model.moe.has_value();
}

bool has_capacity(const RunConfig& config) {
  return has_moe(config) && (config.model.moe->capacity_factor || config.model.moe->eval_capacity_factor);
}

/// Whether tokens of a group compete for something.
bool has_capacity_groups(const RunConfig& config) {
  if (!has_moe(config)) return false;
  const auto rule = routing_rules().find(config.model.moe->router);
  return config.model.moe->capacity_factor || (rule != routing_rules().end() && rule->second.compares_tokens);
}

WordValue<Activation> activation_words() {
  return {{{"swiglu", Activation::kSwiglu},
           {"geglu", Activation::kGeglu},
           {"clamped_swiglu", Activation::kClampedSwiglu},
           {"gelu", Activation::kGelu},
           {"relu", Activation::kRelu}}};
}

bool has_nested_experts(const RunConfig& config) {
  return has_moe(config) && config.model.moe->nested_experts > 0;
}

template <class Keys>
void add_expert_keys(Keys& moe) {
  moe.add("num_experts", &MoeConfig::num_experts, IntegerValue{1, kMaxSize}, "Experts of one MoE layer.");
  moe.add("num_experts_by_layer", &MoeConfig::num_experts_by_layer, ExpertsByLayerValue{},
          "Blocks with another number of experts than num_experts, such as {2: 16, 3: 32}.");
  moe.add("top_k", &MoeConfig::top_k, IntegerValue{1, kMaxSize}, "Experts that one token visits.");
  moe.add("ffn_hidden_size", &MoeConfig::ffn_hidden_size, IntegerValue{1, kMaxSize}, "Width of one expert.").as_required();
  moe.add("activation", &MoeConfig::activation, activation_words(), "Of the experts and the shared expert.")
      .defaulting_to("model.activation");
  moe.add(
      "nested_experts", &MoeConfig::nested_experts, IntegerValue{0, kMaxSize},
      "Makes every expert an MoE layer of its own: so many experts of ffn_hidden_size stand inside it, behind a softmax gate; 0 = plain "
      "experts.");
  moe.add("nested_top_k", &MoeConfig::nested_top_k, IntegerValue{1, kMaxSize}, "Experts inside an expert that one row visits.")
      .only_when("model.moe.nested_experts", "is 2 or more", has_nested_experts);
  moe.add("expert_bias", &MoeConfig::expert_bias, BooleanValue{}, "Biases on the experts' two matrices.");
  moe.add("expert_dropout", &MoeConfig::expert_dropout, NumberValue{.most = 1.0, .most_excluded = true},
          "Share of an expert's activations that is dropped in training, by token; 0 = none.");
  moe.add("shared_expert_ffn_hidden_size", &MoeConfig::shared_expert_ffn_hidden_size, IntegerValue{0, kMaxSize},
          "Width of an expert that every token visits; 0 = none.");
  moe.add("shared_expert_gate", &MoeConfig::shared_expert_gate, BooleanValue{},
          "Multiplies the shared expert's output by the sigmoid of a learned projection of its input.");
  moe.add("residual", &MoeConfig::residual, BooleanValue{},
          "Mixes the experts' output and the shared expert's by a softmax of a learned projection of the input, instead of adding them.");
  moe.add(
      "layers", &MoeConfig::layers, LayerSetValue{},
      "Blocks with an MoE layer. every n: the n-th, 2n-th, ...; first_dense n: all but the first n; or a list of block numbers from 0.");
  moe.add("every", &MoeConfig::layers, LayerCountValue{LayerSet::Kind::kEvery}, "Short for `layers: {every: n}`.")
      .as_alias_of("model.moe.layers");
  moe.add("first_dense", &MoeConfig::layers, LayerCountValue{LayerSet::Kind::kFirstDense}, "Short for `layers: {first_dense: n}`.")
      .as_alias_of("model.moe.layers");
}

bool chooses_top_k(const RunConfig& config) {
  return has_moe(config) && config.model.moe->router == "top_k";
}

bool has_groups(const RunConfig& config) {
  return has_moe(config) && config.model.moe->groups > 1;
}

/// How a token's experts are chosen and weighed.
template <class Keys>
void add_router_keys(Keys& moe) {
  const std::string router = "model.moe.router", is_top_k = "is top_k", groups = "model.moe.groups", are_several = "is 2 or more";
  moe.add(
      "router", &MoeConfig::router, TextValue{},
      "Routing rule: top_k, dense, noisy_top_k, hierarchical, gshard_top_2, expert_choice, sinkhorn, hash, forced_uniform, forced_random "
      "or forced_zipf. docs/routing.md describes each.");
  moe.add("score", &MoeConfig::score,
          WordValue<ScoreFunction>{{{"softmax", ScoreFunction::kSoftmax}, {"sigmoid", ScoreFunction::kSigmoid}}},
          "What becomes of a logit: experts compete, or each stands for itself.")
      .only_when(router, is_top_k, chooses_top_k);
  moe.add("renormalize", &MoeConfig::renormalize, BooleanValue{},
          "Divides the chosen scores by their sum. top_k 1 must say false: the only weight would be 1, and the router would learn nothing.")
      .defaulting_to("true, but false for top_k 1")
      .only_when(router, is_top_k, chooses_top_k);
  moe.add("scale", &MoeConfig::scale, NumberValue{.least_excluded = true}, "The weights times this, after renormalisation.")
      .only_when(router, is_top_k, chooses_top_k);
  moe.add("bias_update", &MoeConfig::bias_update, NumberValue{},
          "Balances without a loss: after each step the bias that is added to an expert's score for the choice moves by this much, up "
          "where the "
          "expert got less than its share, down where it got more; 0 = no such bias. Needs score: sigmoid.")
      .only_when(router, is_top_k, chooses_top_k);
  moe.add("apply", &MoeConfig::apply, WordValue<ApplyWeight>{{{"output", ApplyWeight::kOutput}, {"input", ApplyWeight::kInput}}},
          "What an expert's weight multiplies.");
  moe.add("router_bias", &MoeConfig::router_bias, BooleanValue{}, "A learned bias on the router's logits.");
  moe.add("input_jitter", &MoeConfig::input_jitter, NumberValue{.most = 1.0, .most_excluded = true},
          "Multiplies the router's input by U[1 - j, 1 + j] in training; 0 = off.");
  moe.add(
      "groups", &MoeConfig::groups, IntegerValue{1, kMaxSize},
      "Groups of consecutive experts: a token may visit group_top_k of them (top_k, hierarchical), and group_loss and communication_loss "
      "balance them.");
  moe.add("group_top_k", &MoeConfig::group_top_k, IntegerValue{1, kMaxSize}, "Groups that one token may visit.")
      .only_when(groups, are_several, has_groups);
  moe.add("group_score", &MoeConfig::group_score, WordValue<GroupScore>{{{"best", GroupScore::kBest}, {"best_two", GroupScore::kBestTwo}}},
          "What a group is worth to a token: its best expert's score, or the sum of its two best ones'.")
      .only_when(router, is_top_k, chooses_top_k);
}

WordValue<AuxLossScope> scope_words() {
  return {{{"sequence", AuxLossScope::kSequence},
           {"micro_batch", AuxLossScope::kMicroBatch},
           {"global_batch", AuxLossScope::kGlobalBatch},
           {"running", AuxLossScope::kRunning},
           {"lagged", AuxLossScope::kLagged}}};
}

/// The objective's terms. docs/balancing.md has the formulae.
template <class Keys>
void add_balancing_keys(Keys& moe) {
  const std::string groups = "model.moe.groups", are_several = "is 2 or more";
  moe.add("aux_loss_coeff", &MoeConfig::aux_loss_coeff, CoefficientValue{}, "Weight of the load-balancing loss; 0 = none.");
  moe.add(
      "aux_loss_scope", &MoeConfig::aux_loss_scope, scope_words(),
      "Tokens over which aux_loss is measured: each row of the batch alone; a rank's micro-batch (depends on the layout); the whole step "
      "over all ranks (exact); the step's micro-batches so far over all ranks (depends on the accumulation); or the step before (the "
      "first step is exact).");
  moe.add("aux_loss_form", &MoeConfig::aux_loss_form,
          WordValue<AuxLossForm>{{{"megatron", AuxLossForm::kMegatron}, {"hugging_face", AuxLossForm::kHuggingFace}}},
          "megatron: summed over layers, 1 a layer at perfect balance. hugging_face: layers pooled, top_k at perfect balance.");
  moe.add("aux_loss_counts", &MoeConfig::aux_loss_counts,
          WordValue<AuxLossCounts>{{{"all", AuxLossCounts::kAll}, {"first_choice", AuxLossCounts::kFirstChoice}}},
          "Which assignments aux_loss and sequence_loss count: all, or first choices only, as GShard and ST-MoE.");
  moe.add("sequence_loss_coeff", &MoeConfig::sequence_loss_coeff, CoefficientValue{},
          "Weight of the same loss formed for each sequence, beside the other; 0 = none.");
  moe.add("importance_loss_coeff", &MoeConfig::importance_loss_coeff, CoefficientValue{},
          "Weight of the importance loss, the squared coefficient of variation of the experts' mean probabilities; 0 = none.");
  moe.add("importance_loss_scope", &MoeConfig::importance_loss_scope, scope_words(), "As aux_loss_scope.");
  moe.add(
      "load_loss_coeff", &MoeConfig::load_loss_coeff, CoefficientValue{},
      "Weight of the load loss, the squared coefficient of variation of a smooth estimate of the assignments; noisy_top_k and hierarchical "
      "have one; 0 = none.");
  moe.add("load_loss_scope", &MoeConfig::load_loss_scope, scope_words(), "As aux_loss_scope.");
  moe.add("group_loss_coeff", &MoeConfig::group_loss_coeff, CoefficientValue{}, "Weight of the load-balancing loss over groups; 0 = none.")
      .only_when(groups, are_several, has_groups);
  moe.add("group_loss_scope", &MoeConfig::group_loss_scope, scope_words(), "As aux_loss_scope.").only_when(groups, are_several, has_groups);
  moe.add("communication_loss_coeff", &MoeConfig::communication_loss_coeff, CoefficientValue{},
          "Weight of the loss that balances how many tokens visit each group; 0 = none.")
      .only_when(groups, are_several, has_groups);
  moe.add("communication_loss_scope", &MoeConfig::communication_loss_scope, scope_words(), "As aux_loss_scope.")
      .only_when(groups, are_several, has_groups);
  moe.add("nested_loss_coeff", &MoeConfig::nested_loss_coeff, CoefficientValue{},
          "Weight of the load-balancing loss of the gates inside nested experts; 0 = none.")
      .only_when("model.moe.nested_experts", "is 2 or more", has_nested_experts);
  moe.add("z_loss_coeff", &MoeConfig::z_loss_coeff, CoefficientValue{},
          "Weight of the router z-loss, the mean square of logsumexp(logits) over the tokens of the step; 0 = none.");
  moe.add("domains", &MoeConfig::domains, IntegerValue{0, kMaxSize},
          "Ties experts to sources of data: source d (in the order of data.sources) owns the experts d, d + domains, ...; 0 = no source "
          "owns any.");
  moe.add("domain_loss_coeff", &MoeConfig::domain_loss_coeff, CoefficientValue{},
          "Weight of the mean of -log(probability of the experts that a token's source owns).")
      .only_when("model.moe.domains", "is 1 or more",
                 [](const RunConfig& config) { return has_moe(config) && config.model.moe->domains > 0; });
}

template <class Keys>
void add_capacity_keys(Keys& moe) {
  const std::string factor = "model.moe.capacity_factor";
  moe.add("capacity_factor", &MoeConfig::capacity_factor, OptionalNumberValue{{.least_excluded = true}},
          "Slots of an expert over its fair share of assignments, in training; what exceeds them is dropped. null = nothing is dropped.");
  moe.add("eval_capacity_factor", &MoeConfig::eval_capacity_factor, OptionalNumberValue{{.least_excluded = true}},
          "The same in evaluation and generation, where every sequence is a group of its own.");
  moe.add("capacity_group", &MoeConfig::capacity_group, CapacityGroupValue{},
          "What competes for slots: n consecutive sequences (the same on every layout) or the whole micro-batch (depends on the layout).")
      .only_when(factor, "is a number, or the router is expert_choice or sinkhorn", has_capacity_groups);
  moe.add("min_capacity", &MoeConfig::min_capacity, IntegerValue{}, "An expert has at least this many slots a group.")
      .only_when(factor, "is a number", has_capacity);
  moe.add("drop_order", &MoeConfig::drop_order,
          WordValue<DropOrder>{{{"[choice, position]", DropOrder::kChoicePosition},
                                {"[choice, score, position]", DropOrder::kChoiceScorePosition},
                                {"[score, position]", DropOrder::kScorePosition},
                                {"random", DropOrder::kRandom}}},
          "Keys by which assignments queue for slots; the tail is dropped. random: by a number of the sample, position and choice.")
      .only_when(factor, "is a number", has_capacity);
}

}  // namespace

void add_model_keys(RunKeys& keys) {
  SectionKeys model(
      keys, "model.", [](auto& config) -> auto& { return config.model; });
  model.add("vocab_size", &ModelConfig::vocab_size, IntegerValue{1, kMaxLength}, "Number of token ids. 257 fits the byte tokenizer.");
  model.add("num_layers", &ModelConfig::num_layers, IntegerValue{1, kMaxLayers}, "Number of blocks (attention + feed-forward).");
  model.add("hidden_size", &ModelConfig::hidden_size, IntegerValue{1, kMaxSize}, "Width of the residual stream.");
  model.add("ffn_hidden_size", &ModelConfig::ffn_hidden_size, IntegerValue{1, kMaxSize}, "Width of the feed-forward of dense blocks.");
  model.add("activation", &ModelConfig::activation, activation_words(),
            "Of the dense blocks' feed-forward. The first three multiply two halves, so that a feed-forward has three matrices.");
  model.add(
      "sequence_mixer", &ModelConfig::sequence_mixer,
      WordValue<SequenceMixer>{{{"attention", SequenceMixer::kAttention}, {"lstm", SequenceMixer::kLstm}}},
      "How tokens learn of each other. lstm: a recurrent layer of the residual stream's width; the keys of attention mean nothing then.");
  model.add("num_attention_heads", &ModelConfig::num_attention_heads, IntegerValue{1, kMaxSize}, "Query heads.");
  model
      .add("num_key_value_heads", &ModelConfig::num_key_value_heads, IntegerValue{1, kMaxSize},
           "Key and value heads; fewer than query heads is grouped-query attention.")
      .defaulting_to("num_attention_heads");
  model.add("head_dim", &ModelConfig::head_dim, IntegerValue{2, kMaxSize}, "Width of one head; even, because rotary embeddings turn pairs.")
      .defaulting_to("hidden_size / num_attention_heads");
  model.add("max_sequence_length", &ModelConfig::max_sequence_length, IntegerValue{1, kMaxLength},
            "Longest sequence that the model is made for.");
  model.add("rope_theta", &ModelConfig::rope_theta, NumberValue{.least_excluded = true}, "Base of the rotary embeddings' wavelengths.");
  model.add("norm_eps", &ModelConfig::norm_eps, NumberValue{.least_excluded = true}, "Added to the mean square inside RMSNorm.");
  model.add("init_std", &ModelConfig::init_std, NumberValue{.least_excluded = true},
            "Standard deviation of the initial weights; output projections are divided by sqrt(2 num_layers).");
  model.add("tie_embeddings", &ModelConfig::tie_embeddings, BooleanValue{}, "The output head is the embedding table.");
  model.add("norm_placement", &ModelConfig::norm_placement,
            WordValue<NormPlacement>{{{"pre", NormPlacement::kPre}, {"post", NormPlacement::kPost}}},
            "pre: norms stand before attention and feed-forward. post: behind them, before the sum.");
  model.add("qkv_bias", &ModelConfig::qkv_bias, BooleanValue{},
            "Biases on the query, key and value projections; in latent attention on those from the input to the latents.");
  model.add("ffn_bias", &ModelConfig::ffn_bias, BooleanValue{}, "Biases on the feed-forward of dense blocks.");
  model.add("mtp_layers", &ModelConfig::mtp_layers, IntegerValue{0, kMaxLayers},
            "Multi-token prediction: blocks behind the others, the d-th of which predicts the token d further on. They count on from "
            "num_layers in lists of blocks, and generation does without them.");
  model.add("mtp_loss_coeff", &ModelConfig::mtp_loss_coeff, NumberValue{}, "Weight of the mean of their cross entropies.")
      .only_when("model.mtp_layers", "is 1 or more", [](const RunConfig& config) { return config.model.mtp_layers > 0; });
}

void add_moe_keys(RunKeys& keys) {
  const size_t first = keys.size();
  SectionKeys moe(
      keys, "model.moe.", [](auto& config) -> auto& { return *config.model.moe; });
  add_expert_keys(moe);
  add_router_keys(moe);
  add_balancing_keys(moe);
  add_capacity_keys(moe);
  for (size_t i = first; i < keys.size(); ++i) {
    if (keys[i].condition_key.empty()) keys[i].applies = has_moe;
  }
}

}  // namespace switchyard
