// The shape of a model: everything that decides what its parameters are and what it computes. Plain values, checked by find_faults().
// Field names are the configuration's keys (section `model`), Megatron's words in snake case.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

/// Which blocks hold an MoE layer. `every` n: blocks n-1, 2n-1, ... (n = 1: all of them). `first_dense` n: all but the first n.
struct MoeLayers {
  enum class Kind { kEvery, kFirstDense, kList };
  Kind kind = Kind::kEvery;
  int64_t count = 1;               ///< n of `every` or `first_dense`
  std::vector<int64_t> list = {};  ///< block numbers from 0, ascending (kList)

  bool contains(int64_t layer) const;
};

/// What competes for an expert's slots. `sequences` n: n consecutive global samples (the same on every layout). 0: the whole micro-batch.
struct CapacityGroup {
  int64_t sequences = 1;
};

/// Who is dropped first when an expert is full: assignments are queued by these keys, and the tail is dropped.
enum class DropOrder { kChoicePosition, kChoiceScorePosition, kScorePosition };

/// Over which tokens a balancing term is formed. `sequence`: each row of the batch alone, averaged. `micro_batch`: a rank's micro-batch
/// alone, averaged (depends on the layout). `global_batch`: exact over all ranks and all micro-batches of the step. `running`: the global
/// sums of the step's micro-batches so far. `lagged`: the global sums of the step before.
enum class AuxLossScope { kSequence, kMicroBatch, kGlobalBatch, kRunning, kLagged };

/// `megatron`: E sum f_i P_i, f_i = c_i / (k N), summed over the MoE layers (1 a layer at perfect balance). `hugging_face`: layers pooled
/// into one mean and f counted over k choices (k at perfect balance), as transformers' load_balancing_loss_func.
enum class AuxLossForm { kMegatron, kHuggingFace };

struct MoeConfig {
  int64_t num_experts = 8;
  int64_t top_k = 2;
  std::string router = "softmax_top_k";       ///< a name in the table of core/routing/routing_rule.h
  int64_t ffn_hidden_size = 0;                ///< width of one expert
  int64_t shared_expert_ffn_hidden_size = 0;  ///< width of the expert that every token visits; 0 = none
  bool shared_expert_gate = false;            ///< its output times sigmoid(w x), as Qwen2-MoE
  MoeLayers layers;
  bool renormalize = true;  ///< the chosen probabilities divided by their sum; top_k 1 must say false
  double aux_loss_coeff = 0.01;
  AuxLossScope aux_loss_scope = AuxLossScope::kGlobalBatch;
  AuxLossForm aux_loss_form = AuxLossForm::kMegatron;
  double importance_loss_coeff = 0.0;  ///< of CV(P)^2 (Shazeer 2017, arXiv:1701.06538, equation 7), over aux_loss_scope
  double z_loss_coeff = 0.001;
  std::optional<double> capacity_factor;  ///< none = dropless
  CapacityGroup capacity_group;
  int64_t min_capacity = 0;
  DropOrder drop_order = DropOrder::kChoicePosition;
  double input_jitter = 0.0;  ///< the router's input times U[1 - j, 1 + j] in training (Switch)
};

struct ModelConfig {
  int64_t vocab_size = 257;
  int64_t num_layers = 4;
  int64_t hidden_size = 128;
  int64_t ffn_hidden_size = 384;  ///< width of the dense blocks' feed-forward
  int64_t num_attention_heads = 4;
  int64_t num_key_value_heads = 4;
  int64_t head_dim = 32;
  int64_t max_sequence_length = 256;
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  double init_std = 0.02;
  bool tie_embeddings = false;
  bool qkv_bias = false;  ///< biases on the query, key and value projections, as Qwen2
  std::optional<MoeConfig> moe;

  bool is_moe_layer(int64_t layer) const { return moe && moe->layers.contains(layer); }
  int64_t num_moe_layers() const;
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
};
ParameterCounts count_parameters(const ModelConfig& config);

/// Floating-point operations that training spends on one token (forward and backward: 3 x forward), a multiply-add counting 2: active
/// matrices + causal attention over `sequence_length` (half of the full square). The numerator of MFU.
double training_flops_per_token(const ModelConfig& config, int64_t sequence_length);

}  // namespace switchyard
