#include "training/config_section_keys.h"

namespace switchyard {
namespace {

constexpr int64_t kMaxLayers = 10'000;

bool has_moe(const RunConfig& config) {
  return config.model.moe.has_value();
}

bool has_capacity(const RunConfig& config) {
  return has_moe(config) && config.model.moe->capacity_factor.has_value();
}

template <class Keys>
void add_expert_keys(Keys& moe) {
  moe.add("num_experts", &MoeConfig::num_experts, IntegerValue{1, kMaxSize}, "Experts of one MoE layer.");
  moe.add("top_k", &MoeConfig::top_k, IntegerValue{1, kMaxSize}, "Experts that one token visits.");
  moe.add("router", &MoeConfig::router, TextValue{}, "Routing rule. softmax_top_k: the k largest of a softmax over the experts.");
  moe.add("ffn_hidden_size", &MoeConfig::ffn_hidden_size, IntegerValue{1, kMaxSize}, "Width of one expert.").as_required();
  moe.add("shared_expert_ffn_hidden_size", &MoeConfig::shared_expert_ffn_hidden_size, IntegerValue{0, kMaxSize},
          "Width of an expert that every token visits; 0 = none.");
  moe.add("shared_expert_gate", &MoeConfig::shared_expert_gate, BooleanValue{},
          "Multiplies the shared expert's output by the sigmoid of a learned projection of its input.");
  moe.add(
      "layers", &MoeConfig::layers, MoeLayersValue{},
      "Blocks with an MoE layer. every n: the n-th, 2n-th, ...; first_dense n: all but the first n; or a list of block numbers from 0.");
  moe.add("every", &MoeConfig::layers, MoeLayersCountValue{MoeLayers::Kind::kEvery}, "Short for `layers: {every: n}`.")
      .as_alias_of("model.moe.layers");
  moe.add("first_dense", &MoeConfig::layers, MoeLayersCountValue{MoeLayers::Kind::kFirstDense}, "Short for `layers: {first_dense: n}`.")
      .as_alias_of("model.moe.layers");
}

template <class Keys>
void add_routing_keys(Keys& moe) {
  moe.add("renormalize", &MoeConfig::renormalize, BooleanValue{},
          "Divides the chosen probabilities by their sum. top_k 1 must say false: the only weight would be 1, and the router would learn "
          "nothing.")
      .defaulting_to("true, but false for top_k 1");
  moe.add("aux_loss_coeff", &MoeConfig::aux_loss_coeff, NumberValue{}, "Weight of the load-balancing loss; 0 = none.");
  moe.add(
      "aux_loss_scope", &MoeConfig::aux_loss_scope,
      WordValue<AuxLossScope>{{{"sequence", AuxLossScope::kSequence},
                               {"micro_batch", AuxLossScope::kMicroBatch},
                               {"global_batch", AuxLossScope::kGlobalBatch},
                               {"running", AuxLossScope::kRunning},
                               {"lagged", AuxLossScope::kLagged}}},
      "Tokens over which aux_loss and importance_loss are measured: each row of the batch alone; a rank's micro-batch (depends on the "
      "layout); the whole step over all ranks (exact); the step's micro-batches so far over all ranks (depends on the accumulation); or "
      "the step before (the first step is exact). z_loss is a mean over the tokens of the step in any case.");
  moe.add("aux_loss_form", &MoeConfig::aux_loss_form,
          WordValue<AuxLossForm>{{{"megatron", AuxLossForm::kMegatron}, {"hugging_face", AuxLossForm::kHuggingFace}}},
          "megatron: summed over layers, 1 a layer at perfect balance. hugging_face: layers pooled, top_k at perfect balance.");
  moe.add("importance_loss_coeff", &MoeConfig::importance_loss_coeff, NumberValue{},
          "Weight of the importance loss, the squared coefficient of variation of the experts' mean probabilities; 0 = none.");
  moe.add("z_loss_coeff", &MoeConfig::z_loss_coeff, NumberValue{},
          "Weight of the router z-loss, the mean square of logsumexp(logits); 0 = none.");
  moe.add("input_jitter", &MoeConfig::input_jitter, NumberValue{.most = 1.0, .most_excluded = true},
          "Multiplies the router's input by U[1 - j, 1 + j] in training; 0 = off.");
}

template <class Keys>
void add_capacity_keys(Keys& moe) {
  const std::string factor = "model.moe.capacity_factor";
  moe.add("capacity_factor", &MoeConfig::capacity_factor, OptionalNumberValue{{.least_excluded = true}},
          "Slots of an expert over its fair share of assignments; what exceeds them is dropped. null = nothing is dropped.");
  moe.add("capacity_group", &MoeConfig::capacity_group, CapacityGroupValue{},
          "What competes for slots: n consecutive sequences (the same on every layout) or the whole micro-batch (depends on the layout).")
      .only_when(factor, "is a number", has_capacity);
  moe.add("min_capacity", &MoeConfig::min_capacity, IntegerValue{}, "An expert has at least this many slots a group.")
      .only_when(factor, "is a number", has_capacity);
  moe.add("drop_order", &MoeConfig::drop_order,
          WordValue<DropOrder>{{{"[choice, position]", DropOrder::kChoicePosition},
                                {"[choice, score, position]", DropOrder::kChoiceScorePosition},
                                {"[score, position]", DropOrder::kScorePosition}}},
          "Keys by which assignments queue for slots; the tail is dropped.")
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
  model.add("qkv_bias", &ModelConfig::qkv_bias, BooleanValue{}, "Biases on the query, key and value projections.");
}

void add_moe_keys(RunKeys& keys) {
  const size_t first = keys.size();
  SectionKeys moe(
      keys, "model.moe.", [](auto& config) -> auto& { return *config.model.moe; });
  add_expert_keys(moe);
  add_routing_keys(moe);
  add_capacity_keys(moe);
  for (size_t i = first; i < keys.size(); ++i) {
    if (keys[i].condition_key.empty()) keys[i].applies = has_moe;
  }
}

}  // namespace switchyard
