#include "core/attention_checks.h"

namespace switchyard {
namespace {

class AttentionChecks {
 public:
  explicit AttentionChecks(const ModelConfig& config) : config_(config), attention_(config.attention), rope_(config.rope) {}

  std::vector<ConfigFault> run() {
    if (config_.sequence_mixer == SequenceMixer::kLstm) {
      refuse_without_attention();
      return std::move(faults_);
    }
    if (attention_.is_latent()) {
      check_latent_sizes();
      refuse_in_latent_attention();
    } else {
      check_heads();
      refuse_without_latents();
    }
    check_sight();
    check_positions();
    check_scaling();
    return std::move(faults_);
  }

 private:
  void add(std::string key, std::string problem, std::vector<std::string> other_keys = {}) {
    faults_.push_back({std::move(key), std::move(problem), std::move(other_keys)});
  }

  void refuse_if(bool is_set, const std::string& key, const std::string& problem, const std::string& other_key) {
    if (is_set) add(key, problem, {other_key});
  }

  void refuse_without_attention() {
    const std::string mixer = "model.sequence_mixer", problem = "has no attention to stand in with model.sequence_mixer = lstm; use ";
    refuse_if(config_.qkv_bias, "model.qkv_bias", problem + "false", mixer);
    refuse_if(attention_.output_bias, "model.attention.output_bias", problem + "false", mixer);
    refuse_if(attention_.qk_norm != QkNorm::kNone, "model.attention.qk_norm", problem + "none", mixer);
    refuse_if(attention_.sinks, "model.attention.sinks", problem + "false", mixer);
    refuse_if(attention_.window > 0, "model.attention.window", problem + "0", mixer);
    refuse_if(attention_.chunk > 0, "model.attention.chunk", problem + "0", mixer);
    refuse_if(attention_.is_latent(), "model.attention.kv_lora_rank", problem + "0", mixer);
    refuse_if(rope_.scaling != RopeScaling::kNone, "model.rope.scaling", problem + "none", mixer);
  }

  void check_heads() {
    const int64_t heads = config_.num_attention_heads, groups = config_.num_key_value_heads;
    if (heads > 0 && groups > 0 && heads % groups != 0) {
      add("model.num_attention_heads",
          "is not divisible by model.num_key_value_heads = " + std::to_string(groups) +
              "; let each key-value head serve equally many query heads",
          {"model.num_key_value_heads"});
    }
    if (config_.head_dim % 2 != 0) {
      add("model.head_dim", "is odd; rotary embeddings turn pairs, use an even number", {"model.hidden_size", "model.num_attention_heads"});
    } else if (rope_.fraction != 1.0 && (config_.rotary_dim() % 2 != 0 || config_.rotary_dim() == 0)) {
      add("model.rope.fraction",
          "turns " + std::to_string(config_.rotary_dim()) +
              " of a head's width; rotary embeddings turn pairs, use a share that gives an even number",
          {"model.head_dim"});
    }
  }

  void check_latent_sizes() {
    const std::string latent = "model.attention.kv_lora_rank";
    const auto positive = [&](const char* key, int64_t value) {
      if (value < 1) add(key, "is not given; latent attention (" + latent + ") needs this width of a head, use 1 or more", {latent});
    };
    positive("model.attention.qk_nope_head_dim", attention_.qk_nope_head_dim);
    positive("model.attention.qk_rope_head_dim", attention_.qk_rope_head_dim);
    positive("model.attention.v_head_dim", attention_.v_head_dim);
    if (attention_.qk_rope_head_dim % 2 != 0) {
      add("model.attention.qk_rope_head_dim", "is odd; rotary embeddings turn pairs, use an even number");
    }
  }

  void refuse_in_latent_attention() {
    const std::string latent = "model.attention.kv_lora_rank", problem = "has no place in latent attention (" + latent + "); use ";
    refuse_if(config_.num_key_value_heads != config_.num_attention_heads, "model.num_key_value_heads",
              "differs from model.num_attention_heads = " + std::to_string(config_.num_attention_heads) +
                  ": in latent attention every head has keys and values of its own; leave it out",
              latent);
    refuse_if(attention_.qk_norm != QkNorm::kNone, "model.attention.qk_norm", problem + "none: the latents are normed", latent);
    refuse_if(attention_.sinks, "model.attention.sinks", problem + "false", latent);
    refuse_if(attention_.clip_qkv.has_value(), "model.attention.clip_qkv", problem + "null", latent);
    refuse_if(!attention_.nope_layers.is_none(), "model.attention.nope_layers", problem + "[]", latent);
    refuse_if(rope_.fraction != 1.0, "model.rope.fraction", "is said by model.attention.qk_rope_head_dim in latent attention; use 1",
              latent);
  }

  void refuse_without_latents() {
    const std::string latent = "model.attention.kv_lora_rank", problem = "belongs to latent attention; set " + latent + ", or use 0";
    refuse_if(attention_.q_lora_rank > 0, "model.attention.q_lora_rank", problem, latent);
    refuse_if(attention_.qk_nope_head_dim > 0, "model.attention.qk_nope_head_dim", problem, latent);
    refuse_if(attention_.qk_rope_head_dim > 0, "model.attention.qk_rope_head_dim", problem, latent);
    refuse_if(attention_.v_head_dim > 0, "model.attention.v_head_dim", problem, latent);
    refuse_if(rope_.mscale_all_dim != 0.0 && rope_.mscale == 0.0, "model.rope.mscale_all_dim",
              "means something with model.rope.mscale or in latent attention alone; use 0", "model.rope.mscale");
  }

  /// Windows, chunks and the blocks that have none.
  void check_sight() {
    const bool is_limited = attention_.window > 0 || attention_.chunk > 0;
    refuse_if(attention_.window > 0 && attention_.chunk > 0, "model.attention.chunk",
              "stands beside model.attention.window; a block has one of them, use 0 for the other", "model.attention.window");
    refuse_if(!is_limited && !attention_.full_layers.is_none(), "model.attention.full_layers",
              "names blocks without a limit where no block has one; set model.attention.window or chunk, or use []",
              "model.attention.window");
    check_blocks("model.attention.full_layers", attention_.full_layers);
    check_blocks("model.attention.nope_layers", attention_.nope_layers);
    refuse_if(attention_.temperature_scale > 0.0 && attention_.nope_layers.is_none(), "model.attention.temperature_scale",
              "changes blocks without positions alone, and there is none; set model.attention.nope_layers, or use 0",
              "model.attention.nope_layers");
  }

  void check_blocks(const std::string& key, const LayerSet& blocks) {
    if (blocks.kind != LayerSet::Kind::kList || blocks.list.empty()) return;
    const int64_t last = config_.num_blocks() - 1;
    if (!std::ranges::is_sorted(blocks.list, std::less_equal<>())) {
      add(key, "is not ascending; write each block once, the smallest first");
    } else if (blocks.list.front() < 0 || blocks.list.back() > last) {
      add(key, "names a block that is not there; use 0 to " + std::to_string(last), {"model.num_layers"});
    }
  }

  void check_positions() {
    bool rotates = false;
    for (int64_t layer = 0; layer < config_.num_blocks(); ++layer) rotates = rotates || !attention_.nope_layers.contains(layer);
    refuse_if(attention_.qk_norm == QkNorm::kUnit && !rotates, "model.attention.qk_norm",
              "norms blocks with positions alone, and there is none; use head, whole or none", "model.attention.nope_layers");
  }

  void check_scaling() {
    const std::string scaling = "model.rope.scaling";
    if (rope_.scaling == RopeScaling::kNone)
      return refuse_if(rope_.factor != 1.0, "model.rope.factor", "scales nothing with model.rope.scaling = none; name a scaling, or use 1",
                       scaling);
    if (rope_.factor < 1.0) add("model.rope.factor", "is less than 1; it says how many times longer the context became");
    if (rope_.scaling == RopeScaling::kLinear) return;
    if (rope_.original_length < 1) {
      add("model.rope.original_length", "is not given; model.rope.scaling needs the length of the context before it grew", {scaling});
    }
    if (rope_.scaling == RopeScaling::kLlama3 && rope_.high_freq_factor < rope_.low_freq_factor) {
      add("model.rope.high_freq_factor", "is less than model.rope.low_freq_factor; use as much or more", {"model.rope.low_freq_factor"});
    }
    if (rope_.scaling == RopeScaling::kYarn && rope_.beta_fast < rope_.beta_slow) {
      add("model.rope.beta_fast", "is less than model.rope.beta_slow; use as much or more", {"model.rope.beta_slow"});
    }
  }

  const ModelConfig& config_;
  const AttentionConfig& attention_;
  const RopeConfig& rope_;
  std::vector<ConfigFault> faults_;
};

}  // namespace

std::vector<ConfigFault> find_attention_faults(const ModelConfig& config) {
  return AttentionChecks(config).run();
}

}  // namespace switchyard
