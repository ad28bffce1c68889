#include "training/hf_moe_keys.h"

#include <algorithm>

namespace switchyard {
namespace {

/// Reads one family's keys into a MoeConfig; every method is one matter.
class MoeKeys {
 public:
  MoeKeys(HfKeys& keys, const HfClass& hf, ModelConfig& model) : keys_(keys), family_(hf.family), model_(model) {}

  void read() {
    moe_.z_loss_coeff = 0.0;
    moe_.aux_loss_form = AuxLossForm::kHuggingFace;
    moe_.aux_loss_coeff = 0.0;
    read_family();
    if (moe_.renormalize && moe_.top_k == 1) {
      keys_.refuse("num_experts_per_tok", "the only weight of a token, divided by itself, is always 1, and the router learns nothing");
    }
    if (moe_.layers.is_none()) return;  // dense after all
    model_.moe = std::move(moe_);
  }

 private:
  void read_family() {
    switch (family_) {
      case HfFamily::kMixtral:
        return read_mixtral();
      case HfFamily::kQwen2Moe:
      case HfFamily::kQwen3Moe:
        return read_qwen();
      case HfFamily::kOlmoe:
        read_experts("num_experts", 64, 8, "intermediate_size", 0.01);
        moe_.renormalize = keys_.flag("norm_topk_prob", false);
        return;
      case HfFamily::kFlexOlmo:
        read_experts("num_experts", 7, 5, "intermediate_size", 0.01);
        moe_.renormalize = keys_.flag("norm_topk_prob", false);
        return;
      case HfFamily::kDeepseekV2:
        return read_deepseek_v2();
      case HfFamily::kDeepseekV3:
        return read_deepseek_v3();
      case HfFamily::kLlama4Text:
        return read_llama4();
      case HfFamily::kGptOss:
        return read_gpt_oss();
      default:
        moe_.layers = LayerSet::none();
        moe_.renormalize = false;
    }
  }

  void read_experts(const char* count_key, int64_t experts, int64_t top_k, const char* width_key, double aux_loss_coeff) {
    moe_.num_experts = keys_.natural(count_key, experts);
    moe_.top_k = keys_.natural("num_experts_per_tok", top_k);
    moe_.ffn_hidden_size = keys_.natural(width_key);
    moe_.aux_loss_coeff = keys_.number("router_aux_loss_coef", aux_loss_coeff);
  }

  /// The blocks in `is_inside`, said as shortly as a LayerSet can.
  template <class Predicate>
  void put_experts_where(Predicate is_inside) {
    auto blocks = LayerSet::none();
    for (int64_t layer = 0; layer < model_.num_layers; ++layer) {
      if (is_inside(layer)) blocks.list.push_back(layer);
    }
    const bool all = static_cast<int64_t>(blocks.list.size()) == model_.num_layers;
    moe_.layers = all ? LayerSet{} : std::move(blocks);
  }

  void read_mixtral() {
    read_experts("num_local_experts", 8, 2, "intermediate_size", 0.001);
    keys_.expect("router_jitter_noise", 0.0, "it would change what the experts see, which no jitter here does; use 0");
  }

  void read_qwen() {
    const bool is_qwen2 = family_ == HfFamily::kQwen2Moe;
    // Qwen3-MoE of transformers 5 renames the key.
    const char* count_key = !is_qwen2 && keys_.has("num_local_experts") ? "num_local_experts" : "num_experts";
    if (!is_qwen2) keys_.ignore({"num_experts", "num_local_experts"});
    read_experts(count_key, is_qwen2 ? 60 : 128, is_qwen2 ? 4 : 8, "moe_intermediate_size", 0.001);
    moe_.renormalize = keys_.flag("norm_topk_prob", false);
    if (is_qwen2) {
      moe_.shared_expert_ffn_hidden_size = keys_.natural("shared_expert_intermediate_size", 5632);
      moe_.shared_expert_gate = true;
    }
    const int64_t step = keys_.natural("decoder_sparse_step", 1);
    if (step < 1) keys_.refuse("decoder_sparse_step", "is not positive");
    const auto dense = keys_.has("mlp_only_layers") ? keys_.naturals("mlp_only_layers") : std::vector<int64_t>();
    keys_.ignore({"mlp_only_layers"});
    put_experts_where([&](int64_t layer) { return (layer + 1) % step == 0 && std::ranges::count(dense, layer) == 0; });
  }

  void read_deepseek(int64_t experts, int64_t shared, int64_t first_dense) {
    read_experts("n_routed_experts", experts, 8, "moe_intermediate_size", 0.0);
    moe_.aux_loss_coeff = 0.0;  // their classes compute none
    const std::string count = "n_shared_experts";
    const bool is_null = keys_.names(count) && !keys_.has(count);
    moe_.shared_expert_ffn_hidden_size = moe_.ffn_hidden_size * (is_null ? 0 : keys_.natural(count, shared));
    const int64_t dense = keys_.natural("first_k_dense_replace", first_dense);
    put_experts_where([&](int64_t layer) { return layer >= dense; });
    keys_.expect("moe_layer_freq", 1, "every block behind first_k_dense_replace has experts in transformers; use 1");
    keys_.ignore({"aux_loss_alpha", "seq_aux", "ep_size", "num_nextn_predict_layers", "num_mtp_layers"});
  }

  void read_deepseek_v2() {
    read_deepseek(64, 2, 0);
    moe_.renormalize = false;
    keys_.expect("norm_topk_prob", false, "transformers leaves it out and DeepSeek's own code does not: which is meant cannot be known");
    keys_.expect("scoring_func", "softmax", "routers of DeepSeek-V2 score by a softmax");
    moe_.scale = keys_.number("routed_scaling_factor", 1.0);
    const auto method = keys_.text("topk_method", "greedy");
    if (method == "greedy") {
      keys_.ignore({"n_group", "topk_group"});
    } else if (method == "group_limited_greedy") {
      moe_.groups = keys_.natural("n_group");
      moe_.group_top_k = keys_.natural("topk_group");
    } else {
      keys_.refuse("topk_method", "is not a way to choose experts that this family has here; greedy and group_limited_greedy are");
    }
  }

  void read_deepseek_v3() {
    read_deepseek(256, 1, 3);
    moe_.score = ScoreFunction::kSigmoid;
    moe_.renormalize = keys_.flag("norm_topk_prob", true);
    keys_.expect("scoring_func", "sigmoid", "routers of DeepSeek-V3 score by a sigmoid");
    keys_.expect("topk_method", "noaux_tc", "routers of DeepSeek-V3 choose by groups with a selection bias");
    moe_.scale = keys_.number("routed_scaling_factor", 2.5);
    moe_.groups = keys_.natural("n_group", 8);
    moe_.group_top_k = keys_.natural("topk_group", 4);
    if (moe_.groups > 1) moe_.group_score = GroupScore::kBestTwo;
    moe_.bias_update = 0.001;  // DeepSeek-V3, arXiv:2412.19437, section 4.2
  }

  void read_llama4() {
    read_experts("num_local_experts", 16, 1, "intermediate_size", 0.0);
    moe_.aux_loss_coeff = 0.0;                                    // the key is there and unused
    keys_.ignore({"router_jitter_noise", "for_llm_compressor"});  // never read, and a mark of a tool
    moe_.score = ScoreFunction::kSigmoid;
    moe_.apply = ApplyWeight::kInput;
    moe_.renormalize = false;
    moe_.shared_expert_ffn_hidden_size = moe_.ffn_hidden_size;
    const int64_t step = keys_.natural("interleave_moe_layer_step", 1);
    if (keys_.has("moe_layers")) {
      const auto listed = keys_.naturals("moe_layers");
      put_experts_where([&](int64_t layer) { return std::ranges::count(listed, layer) > 0; });
      return;
    }
    if (step < 1) keys_.refuse("interleave_moe_layer_step", "is not positive");
    put_experts_where([&](int64_t layer) { return (layer + 1) % step == 0; });
  }

  void read_gpt_oss() {
    read_experts("num_local_experts", 128, 4, "intermediate_size", 0.001);
    moe_.router_bias = true;
    moe_.expert_bias = true;
    moe_.activation = Activation::kClampedSwiglu;
    keys_.expect("swiglu_limit", 7.0, "the clamped SwiGLU here clamps at 7");
    keys_.expect("swiglu_alpha", 1.702, "the clamped SwiGLU here has the slope 1.702");
    keys_.ignore({"experts_per_token", "initial_context_length"});  // said a second time by other keys
  }

  HfKeys& keys_;
  HfFamily family_;
  ModelConfig& model_;
  MoeConfig moe_;
};

}  // namespace

void read_moe(HfKeys& keys, const HfClass& hf, ModelConfig& model) {
  MoeKeys(keys, hf, model).read();
}

}  // namespace switchyard
