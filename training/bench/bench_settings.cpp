#include "training/bench/bench_settings.h"

#include <array>
#include <optional>

#include "core/error.h"
#include "training/config_value.h"

namespace switchyard {
namespace {

constexpr const char* kSmallMixtral = R"(
config_version: 1
name: bench
model:
  vocab_size: 8192
  num_layers: 4
  hidden_size: 512
  num_attention_heads: 8
  num_key_value_heads: 4
  max_sequence_length: 512
  moe: {num_experts: 8, top_k: 2, ffn_hidden_size: 1024}
data:
  format: tokens
  sources: [{name: random, path: random}]
training: {steps: 1, global_batch_size: 4, micro_batch_size: 4}
)";

struct ShortForm {
  const char* name;
  const char* key;
};
constexpr std::array<ShortForm, 11> kShortForms = {{{"experts", "model.moe.num_experts"},
                                                    {"top_k", "model.moe.top_k"},
                                                    {"d_model", "model.hidden_size"},
                                                    {"expert_ffn", "model.moe.ffn_hidden_size"},
                                                    {"dtype", "training.precision"},
                                                    {"heads", "model.num_attention_heads"},
                                                    {"kv_heads", "model.num_key_value_heads"},
                                                    {"layers", "model.num_layers"},
                                                    {"vocab", "model.vocab_size"},
                                                    {"batch", "training.global_batch_size"},
                                                    {"expert_parallel", "parallel.expert"}}};

struct Setting {
  std::string key;
  std::string value;
};

Setting split_setting(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return {text, ""};  // the configuration's reader says what is wrong with it
  std::string key = text.substr(0, equals);
  for (const auto& form : kShortForms) {
    if (key == form.name) key = form.key;
  }
  return {std::move(key), text.substr(equals + 1)};
}

std::string joined(const Setting& setting) {
  return setting.value.empty() ? setting.key : setting.key + "=" + setting.value;
}

/// The last value of a key, as a number; `otherwise` where it is not given.
int64_t last_number(const std::vector<Setting>& settings, const std::string& key, int64_t otherwise) {
  for (const auto& setting : settings) {
    if (setting.key == key) otherwise = parse_integer(setting.value).value_or(otherwise);
  }
  return otherwise;
}

/// tokens=N as the length of a sequence.
std::string sequence_length_of(int64_t tokens, int64_t sequences) {
  if (sequences < 1 || tokens < sequences || tokens % sequences != 0) {
    throw UserError("command line: tokens = " + std::to_string(tokens) +
                    " cannot be shared out evenly over batch = " + std::to_string(sequences) + " sequences; use a multiple, or set batch");
  }
  return "model.max_sequence_length=" + std::to_string(tokens / sequences);
}

}  // namespace

std::string bench_short_forms() {
  std::string text = "tokens = all tokens of a step";
  for (const auto& form : kShortForms) text += std::string(", ") + form.name + " = " + form.key;
  return text;
}

RunConfig load_bench_config(const std::string& config_path, const std::vector<std::string>& settings, int64_t world_size) {
  std::vector<Setting> given;
  for (const auto& text : settings) given.push_back(split_setting(text));
  std::vector<std::string> overrides;
  const bool is_built_in = config_path.empty();
  const int64_t sequences = last_number(given, "training.global_batch_size", 4);
  if (is_built_in) overrides.push_back("training.micro_batch_size=" + std::to_string(std::max<int64_t>(1, sequences / world_size)));
  for (const auto& setting : given) {
    if (setting.key != "tokens") {
      overrides.push_back(joined(setting));
    } else if (is_built_in) {
      overrides.push_back(sequence_length_of(last_number(given, "tokens", 0), sequences));
    } else {
      throw UserError("command line: tokens = " + setting.value + " stands for the built-in model; with a file set data.sequence_length");
    }
  }
  return is_built_in ? parse_run_config(kSmallMixtral, "bench", overrides, world_size)
                     : load_run_config(config_path, overrides, world_size);
}

}  // namespace switchyard
