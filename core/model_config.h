// The shape of a model: everything that decides what its parameters are and what it computes. Plain values, checked by find_faults().
// Field names are the configuration's keys (section `model`), Megatron's words in snake case.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/attention_config.h"
#include "core/layer_set.h"

namespace switchyard {

/// What competes for an expert's slots. `sequences` n: n consecutive global samples (the same on every layout). 0: the whole micro-batch.
struct CapacityGroup {
  int64_t sequences = 1;
};

/// Who is dropped first when an expert is full: assignments are queued by these keys, and the tail is dropped.
/// `random`: by a number that belongs to the sample, position and choice.
enum class DropOrder { kChoicePosition, kChoiceScorePosition, kScorePosition, kRandom };

/// How the tokens of a sequence learn of each other.
enum class SequenceMixer { kAttention, kLstm };

/// What stands between the two matrices of a feed-forward; the first three multiply two halves (silu(g) u, gelu(g) u, Shazeer 2020,
/// arXiv:2002.05202; gpt-oss's g sigmoid(1.702 g) (u + 1) with both halves clamped at 7).
enum class Activation { kSwiglu, kGeglu, kClampedSwiglu, kGelu, kRelu };

/// How a logit becomes a score: all experts of a token compete, or each stands for itself.
enum class ScoreFunction { kSoftmax, kSigmoid };

/// What an expert's weight multiplies: what comes out of it, or what goes in (Llama 4).
enum class ApplyWeight { kOutput, kInput };

/// What a group of experts is worth: its best expert's score (DeepSeek-V2), or the sum of its two best ones' (DeepSeek-V3).
enum class GroupScore { kBest, kBestTwo };

/// Over which tokens a balancing term is formed. `sequence`: each row of the batch alone, averaged. `micro_batch`: a rank's micro-batch
/// alone, averaged (depends on the layout). `global_batch`: exact over all ranks and all micro-batches of the step. `running`: the global
/// sums of the step's micro-batches so far. `lagged`: the global sums of the step before.
enum class AuxLossScope { kSequence, kMicroBatch, kGlobalBatch, kRunning, kLagged };

/// `megatron`: E sum f_i P_i, f_i = c_i / (k N), summed over the MoE layers (1 a layer at perfect balance). `hugging_face`: layers pooled
/// into one mean and f counted over k choices (k at perfect balance), as transformers' load_balancing_loss_func.
enum class AuxLossForm { kMegatron, kHuggingFace };

/// Which assignments aux_loss counts as f: all (k a token), or first choices only, as GShard and ST-MoE (one a token).
enum class AuxLossCounts { kAll, kFirstChoice };

/// A number that may change over a run: points (step, value), joined by straight lines; constant before the first and behind the last.
struct Coefficient {
  std::vector<std::pair<int64_t, double>> points = {{0, 0.0}};  ///< steps ascend

  Coefficient(double value = 0.0) : points{{0, value}} {}  // NOLINT(google-explicit-constructor): a number is a coefficient
  explicit Coefficient(std::vector<std::pair<int64_t, double>> values) : points(std::move(values)) {}
  double at(int64_t step) const;
  /// Zero at every step.
  bool is_zero() const;
};

/// Where a block norms: what goes into its two parts, or what comes out of them (OLMo 2, arXiv:2501.00656).
enum class NormPlacement { kPre, kPost };

struct MoeConfig {
  int64_t num_experts = 8;
  std::map<int64_t, int64_t> num_experts_by_layer;  ///< block -> experts, where a block has another number of them
  int64_t top_k = 2;
  std::string router = "top_k";  ///< a name in the table of core/routing/routing_rule.h
  ScoreFunction score = ScoreFunction::kSoftmax;
  bool renormalize = true;  ///< the chosen scores divided by their sum; top_k 1 must say false
  double scale = 1.0;       ///< the weights times this, after renormalisation
  ApplyWeight apply = ApplyWeight::kOutput;
  bool router_bias = false;  ///< a learned bias on the logits
  double bias_update = 0.0;  ///< > 0: step of the selection bias that balances without a loss (arXiv:2408.15664)
  int64_t groups = 1;        ///< groups of consecutive experts
  int64_t group_top_k = 1;   ///< groups that one token may visit
  GroupScore group_score = GroupScore::kBest;
  double input_jitter = 0.0;  ///< the router's input times U[1 - j, 1 + j] in training (Switch)

  int64_t ffn_hidden_size = 0;  ///< width of one expert
  int64_t nested_experts = 0;  ///< experts inside each expert, which is then an MoE layer of its own with a softmax gate; 0 = plain experts
  int64_t nested_top_k = 1;    ///< of these, those that a row visits
  Activation activation = Activation::kSwiglu;  ///< of the experts and the shared expert
  bool expert_bias = false;                     ///< biases on the experts' two matrices
  double expert_dropout = 0.0;                  ///< share of an expert's activations that is dropped in training (Switch)
  int64_t shared_expert_ffn_hidden_size = 0;    ///< width of the expert that every token visits; 0 = none
  bool shared_expert_gate = false;              ///< its output times sigmoid(w x), as Qwen2-MoE
  bool residual = false;                        ///< experts and shared expert mixed by a softmax of W x (DeepSpeed-MoE, arXiv:2201.05596)
  LayerSet layers;                              ///< the blocks with experts

  Coefficient aux_loss_coeff = 0.01;
  AuxLossScope aux_loss_scope = AuxLossScope::kGlobalBatch;
  AuxLossForm aux_loss_form = AuxLossForm::kMegatron;
  AuxLossCounts aux_loss_counts = AuxLossCounts::kAll;
  Coefficient sequence_loss_coeff;    ///< of aux_loss formed for each sequence, beside aux_loss (DeepSeek-V3, arXiv:2412.19437)
  Coefficient importance_loss_coeff;  ///< of CV(P)^2 (Shazeer 2017, arXiv:1701.06538, equation 7)
  AuxLossScope importance_loss_scope = AuxLossScope::kGlobalBatch;
  Coefficient load_loss_coeff;  ///< of CV^2 of the rule's smooth load (the same paper, appendix A)
  AuxLossScope load_loss_scope = AuxLossScope::kGlobalBatch;
  Coefficient group_loss_coeff;  ///< of the balance of the groups' assignments (DeepSeek-V2's device level, arXiv:2405.04434)
  AuxLossScope group_loss_scope = AuxLossScope::kGlobalBatch;
  Coefficient communication_loss_coeff;  ///< of the balance of the groups' visitors (DeepSeek-V2's communication level)
  AuxLossScope communication_loss_scope = AuxLossScope::kGlobalBatch;
  Coefficient nested_loss_coeff;  ///< of the balance of the gates inside experts, over the global batch
  Coefficient z_loss_coeff = 0.001;
  int64_t domains = 0;            ///< domain d of the data owns the experts d, d + domains, ...; 0 = no domain owns any
  Coefficient domain_loss_coeff;  ///< of the loss that draws a domain's tokens to its experts

  std::optional<double> capacity_factor;       ///< in training; none = dropless
  std::optional<double> eval_capacity_factor;  ///< in evaluation and generation, where every sequence is a group
  CapacityGroup capacity_group;
  int64_t min_capacity = 0;
  DropOrder drop_order = DropOrder::kChoicePosition;
};

struct ModelConfig {
  int64_t vocab_size = 257;
  int64_t num_layers = 4;
  int64_t hidden_size = 128;
  int64_t ffn_hidden_size = 384;                ///< width of the dense blocks' feed-forward
  Activation activation = Activation::kSwiglu;  ///< of the dense blocks' feed-forward
  SequenceMixer sequence_mixer = SequenceMixer::kAttention;
  int64_t num_attention_heads = 4;
  int64_t num_key_value_heads = 4;
  int64_t head_dim = 32;
  int64_t max_sequence_length = 256;
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  NormPlacement norm_placement = NormPlacement::kPre;
  double init_std = 0.02;
  bool tie_embeddings = false;
  bool qkv_bias = false;        ///< biases on the query, key and value projections, as Qwen2; of latent attention: on its first projections
  bool ffn_bias = false;        ///< biases on the dense blocks' feed-forward
  int64_t mtp_layers = 0;       ///< blocks behind the others, each of which predicts one token further on (DeepSeek-V3's MTP)
  double mtp_loss_coeff = 0.1;  ///< of the mean of their cross entropies
  AttentionConfig attention;
  RopeConfig rope;
  std::optional<MoeConfig> moe;

  /// Blocks of the model and behind them those of multi-token prediction, which are numbered on.
  int64_t num_blocks() const { return num_layers + mtp_layers; }
  bool is_moe_layer(int64_t layer) const { return moe && moe->layers.contains(layer); }
  std::vector<int64_t> moe_layers() const;  ///< of num_blocks()
  int64_t num_moe_layers() const { return static_cast<int64_t>(moe_layers().size()); }
  int64_t num_experts_at(int64_t layer) const;  ///< of a block with experts
  /// The model as one of its blocks sees it: without experts in a dense block, with the block's own number of experts in the others;
  /// attention.full_layers and nope_layers all or none.
  ModelConfig at_layer(int64_t layer) const;
  /// Width of a head's queries and keys, and of its values.
  int64_t qk_head_dim() const { return attention.is_latent() ? attention.qk_nope_head_dim + attention.qk_rope_head_dim : head_dim; }
  int64_t v_head_dim() const { return attention.is_latent() ? attention.v_head_dim : head_dim; }
  /// Of a head's width, what is turned by its position.
  int64_t rotary_dim() const;
};

/// Every rule of a model's shape that does not need the rest of the configuration. Empty = good.
/// `key` is the full key (`model.moe.top_k`), `problem` a sentence without the value: "is larger than model.moe.num_experts = 8; use at
/// most 8".
struct ConfigFault {
  std::string key;
  std::string problem;
  std::vector<std::string> other_keys = {};  ///< further keys that the rule reads
};
std::vector<ConfigFault> find_faults(const ModelConfig& config);

/// Number of parameters, without allocating any. `active`: those that one token uses (top_k experts of each MoE layer).
struct ParameterCounts {
  int64_t total = 0;
  int64_t active = 0;
  int64_t active_without_embedding = 0;  ///< without the input embedding table, unless it is the output head too
  int64_t prediction = 0;                ///< of the total, the blocks of multi-token prediction; no part of what is active
};
ParameterCounts count_parameters(const ModelConfig& config);

/// Whether the number of parameters fits into a 64-bit integer, with room to spare.
bool has_countable_size(const ModelConfig& config);

/// Floating-point operations that training spends on one token (forward and backward: 3 x forward), a multiply-add counting 2: active
/// matrices + causal attention over `sequence_length` (half of the full square). The numerator of MFU.
double training_flops_per_token(const ModelConfig& config, int64_t sequence_length);

}  // namespace switchyard
