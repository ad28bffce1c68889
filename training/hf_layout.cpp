#include "training/hf_layout.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

/// Collects the table; every method adds the tensors of one part.
class HfTable {
 public:
  HfTable(const ModelConfig& config, HfFamily family, HfExperts experts)
      : c_(config),
        family_(family),
        stacked_(experts == HfExperts::kStacked),
        mlp_(family == HfFamily::kLlama4Text ? "feed_forward." : "mlp."),
        moe_(family == HfFamily::kMixtral && !stacked_ ? "block_sparse_moe." : mlp_) {}

  std::vector<HfTensor> build() {
    whole("model.embed_tokens.weight", "embedding", {c_.vocab_size, c_.hidden_size});
    for (int64_t layer = 0; layer < c_.num_layers; ++layer) add_layer(layer);
    whole("model.norm.weight", "final_norm.weight", {c_.hidden_size});
    if (!c_.tie_embeddings) whole("lm_head.weight", "head", {c_.vocab_size, c_.hidden_size});
    return std::move(tensors_);
  }

 private:
  void whole(const std::string& theirs, const std::string& ours, const std::vector<int64_t>& shape) {
    tensors_.push_back({theirs, shape, ours, shape, 0});
  }

  /// All of ours, in another order: theirs, cut into `view`, lies at `strides`.
  void reordered(const std::string& theirs, const std::vector<int64_t>& shape, const std::string& ours,
                 const std::vector<int64_t>& our_shape, const std::vector<int64_t>& view, const std::vector<int64_t>& strides) {
    tensors_.push_back({theirs, shape, ours, our_shape, 0, view, strides});
  }

  /// Rows [first, first + count) of a matrix or vector of ours.
  void rows(const std::string& theirs, const std::string& ours, const std::vector<int64_t>& our_shape, int64_t first, int64_t count) {
    auto shape = our_shape;
    shape[0] = count;
    tensors_.push_back({theirs, shape, ours, our_shape, our_shape.size() > 1 ? first * our_shape[1] : first});
  }

  void add_layer(int64_t layer) {
    theirs_ = "model.layers." + std::to_string(layer) + ".";
    ours_ = "layers." + std::to_string(layer) + ".";
    const bool post = c_.norm_placement == NormPlacement::kPost;
    whole(theirs_ + (post ? "post_attention_layernorm" : "input_layernorm") + ".weight", ours_ + "attention_norm.weight", {c_.hidden_size});
    c_.attention.is_latent() ? add_latent_attention() : add_attention();
    whole(theirs_ + (post ? "post_feedforward_layernorm" : "post_attention_layernorm") + ".weight", ours_ + "channel_norm.weight",
          {c_.hidden_size});
    if (c_.is_moe_layer(layer)) {
      add_moe();
    } else {
      add_feed_forward(theirs_ + mlp_, ours_ + "feed_forward.", c_.ffn_hidden_size, c_.ffn_bias);
    }
  }

  void add_attention() {
    const int64_t queries = c_.num_attention_heads * c_.head_dim, keys = c_.num_key_value_heads * c_.head_dim, all = queries + 2 * keys;
    const struct {
      const char* name;
      int64_t first, count;
    } parts[] = {{"q", 0, queries}, {"k", queries, keys}, {"v", queries + keys, keys}};
    for (const auto& part : parts) {
      const auto theirs = theirs_ + "self_attn." + part.name + "_proj.";
      rows(theirs + "weight", ours_ + "attention.qkv", {all, c_.hidden_size}, part.first, part.count);
      if (c_.qkv_bias) rows(theirs + "bias", ours_ + "attention.qkv_bias", {all}, part.first, part.count);
    }
    add_output_projection(queries);
    const auto norm = c_.attention.qk_norm;
    if (norm == QkNorm::kHead || norm == QkNorm::kWhole) {
      whole(theirs_ + "self_attn.q_norm.weight", ours_ + "attention.q_norm.weight", {norm == QkNorm::kHead ? c_.head_dim : queries});
      whole(theirs_ + "self_attn.k_norm.weight", ours_ + "attention.k_norm.weight", {norm == QkNorm::kHead ? c_.head_dim : keys});
    }
    if (c_.attention.sinks) whole(theirs_ + "self_attn.sinks", ours_ + "attention.sinks", {c_.num_attention_heads});
  }

  void add_output_projection(int64_t width) {
    whole(theirs_ + "self_attn.o_proj.weight", ours_ + "attention.output", {c_.hidden_size, width});
    if (c_.attention.output_bias) whole(theirs_ + "self_attn.o_proj.bias", ours_ + "attention.output_bias", {c_.hidden_size});
  }

  void add_latent_attention() {
    const auto& a = c_.attention;
    const auto theirs = theirs_ + "self_attn.", ours = ours_ + "attention.";
    const int64_t heads = c_.num_attention_heads, queries = heads * c_.qk_head_dim(), latent = a.kv_lora_rank + a.qk_rope_head_dim;
    if (a.q_lora_rank == 0) {
      whole(theirs + "q_proj.weight", ours + "q", {queries, c_.hidden_size});
    } else {
      whole(theirs + "q_a_proj.weight", ours + "q_a", {a.q_lora_rank, c_.hidden_size});
      if (c_.qkv_bias) whole(theirs + "q_a_proj.bias", ours + "q_a_bias", {a.q_lora_rank});
      whole(theirs + "q_a_layernorm.weight", ours + "q_a_norm.weight", {a.q_lora_rank});
      whole(theirs + "q_b_proj.weight", ours + "q_b", {queries, a.q_lora_rank});
    }
    whole(theirs + "kv_a_proj_with_mqa.weight", ours + "kv_a", {latent, c_.hidden_size});
    if (c_.qkv_bias) whole(theirs + "kv_a_proj_with_mqa.bias", ours + "kv_a_bias", {latent});
    whole(theirs + "kv_a_layernorm.weight", ours + "kv_a_norm.weight", {a.kv_lora_rank});
    whole(theirs + "kv_b_proj.weight", ours + "kv_b", {heads * (a.qk_nope_head_dim + a.v_head_dim), a.kv_lora_rank});
    add_output_projection(heads * a.v_head_dim);
  }

  void add_feed_forward(const std::string& theirs, const std::string& ours, int64_t width, bool bias = false) {
    rows(theirs + "gate_proj.weight", ours + "gate_up", {2 * width, c_.hidden_size}, 0, width);
    rows(theirs + "up_proj.weight", ours + "gate_up", {2 * width, c_.hidden_size}, width, width);
    whole(theirs + "down_proj.weight", ours + "down", {c_.hidden_size, width});
    if (!bias) return;
    rows(theirs + "gate_proj.bias", ours + "up_bias", {2 * width}, 0, width);
    rows(theirs + "up_proj.bias", ours + "up_bias", {2 * width}, width, width);
    whole(theirs + "down_proj.bias", ours + "down_bias", {c_.hidden_size});
  }

  void add_moe() {
    const bool is_router = family_ == HfFamily::kLlama4Text || family_ == HfFamily::kGptOss;
    const auto theirs = theirs_ + moe_, router = theirs + (is_router ? "router." : "gate.");
    const int64_t E = c_.moe->num_experts, shared = c_.moe->shared_expert_ffn_hidden_size;
    whole(router + "weight", ours_ + "moe.router.weight", {E, c_.hidden_size});
    if (c_.moe->router_bias) whole(router + "bias", ours_ + "moe.router.bias", {E});
    if (c_.moe->bias_update > 0.0) whole(router + "e_score_correction_bias", ours_ + "moe.router.selection_bias", {E});
    add_experts(theirs + "experts.");
    if (shared == 0) return;
    const bool is_deepseek = family_ == HfFamily::kDeepseekV2 || family_ == HfFamily::kDeepseekV3;
    add_feed_forward(theirs + (is_deepseek ? "shared_experts." : "shared_expert."), ours_ + "moe.shared_expert.", shared);
    if (c_.moe->shared_expert_gate) whole(theirs + "shared_expert_gate.weight", ours_ + "moe.shared_expert_gate", {1, c_.hidden_size});
  }

  void add_experts(const std::string& theirs) {
    const int64_t E = c_.moe->num_experts, F = c_.moe->ffn_hidden_size, D = c_.hidden_size;
    if (family_ == HfFamily::kLlama4Text || family_ == HfFamily::kGptOss) {
      add_transposed_experts(theirs);
    } else if (stacked_) {
      whole(theirs + "gate_up_proj", ours_ + "moe.experts.gate_up", {E, 2 * F, D});
      whole(theirs + "down_proj", ours_ + "moe.experts.down", {E, D, F});
    } else {
      const bool mixtral = family_ == HfFamily::kMixtral;
      for (int64_t e = 0; e < E; ++e) {
        const auto expert = theirs + std::to_string(e) + ".";
        add_expert(e, expert + (mixtral ? "w1" : "gate_proj"), expert + (mixtral ? "w3" : "up_proj"),
                   expert + (mixtral ? "w2" : "down_proj"));
      }
    }
  }

  void add_expert(int64_t e, const std::string& gate, const std::string& up, const std::string& down) {
    const int64_t E = c_.moe->num_experts, F = c_.moe->ffn_hidden_size, D = c_.hidden_size;
    tensors_.push_back({gate + ".weight", {F, D}, ours_ + "moe.experts.gate_up", {E, 2 * F, D}, (2 * e) * F * D});
    tensors_.push_back({up + ".weight", {F, D}, ours_ + "moe.experts.gate_up", {E, 2 * F, D}, (2 * e + 1) * F * D});
    tensors_.push_back({down + ".weight", {D, F}, ours_ + "moe.experts.down", {E, D, F}, e * D * F});
  }

  /// Inputs first. gpt-oss's gate and up columns take turns, Llama 4's are two halves as ours.
  void add_transposed_experts(const std::string& theirs) {
    const int64_t E = c_.moe->num_experts, F = c_.moe->ffn_hidden_size, D = c_.hidden_size, W = 2 * F;
    const auto gate_up = ours_ + "moe.experts.gate_up";
    if (family_ == HfFamily::kGptOss) {
      reordered(theirs + "gate_up_proj", {E, D, W}, gate_up, {E, W, D}, {E, D, F, 2}, {W * D, 1, D, F * D});
      reordered(theirs + "gate_up_proj_bias", {E, W}, gate_up + "_bias", {E, W}, {E, F, 2}, {W, 1, F});
      whole(theirs + "down_proj_bias", ours_ + "moe.experts.down_bias", {E, D});
    } else {
      reordered(theirs + "gate_up_proj", {E, D, W}, gate_up, {E, W, D}, {E, D, W}, {W * D, 1, D});
    }
    reordered(theirs + "down_proj", {E, F, D}, ours_ + "moe.experts.down", {E, D, F}, {E, F, D}, {D * F, 1, F});
  }

  const ModelConfig& c_;
  HfFamily family_;
  bool stacked_;
  std::string mlp_, moe_;  ///< what stands before the names of a feed-forward, of an MoE layer
  std::string theirs_, ours_;
  std::vector<HfTensor> tensors_;
};

}  // namespace

int64_t HfTensor::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

at::Tensor HfTensor::in(const at::Tensor& ours_flat, int64_t first) const {
  if (!strides.empty()) return ours_flat.as_strided(view, strides, ours_flat.storage_offset() + begin - first);
  return ours_flat.narrow(0, begin - first, numel()).view(shape);
}

std::vector<HfTensor> hf_tensors(const ModelConfig& config, HfFamily family, HfExperts experts) {
  return HfTable(config, family, experts).build();
}

}  // namespace switchyard
