#include "training/hf_rope.h"

namespace switchyard {
namespace {

/// What GptOssConfig takes where config.json says nothing of scaling.
const nlohmann::json& gpt_oss_scaling() {
  static const nlohmann::json scaling = {{"rope_type", "yarn"}, {"factor", 32.0},    {"beta_fast", 32.0},
                                         {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 4096U}};
  return scaling;
}

struct Parameters {
  nlohmann::json object = nlohmann::json::object();
  std::string place = "config.json: ";
};

/// As transformers 5 reads both generations of files: rope_scaling, where it says something, stands before rope_parameters.
Parameters find_parameters(HfKeys& keys, HfFamily family) {
  keys.ignore({"rope_scaling", "rope_parameters"});
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (keys.has(key) && !keys.object(key).empty()) return {keys.object(key), std::string("config.json: ") + key + "."};
  }
  if (family == HfFamily::kGptOss) return {gpt_oss_scaling(), "gpt_oss: "};
  return {};
}

void read_yarn(HfKeys& rope, RopeConfig& to) {
  to.scaling = RopeScaling::kYarn;
  to.beta_fast = rope.number("beta_fast", 32.0);
  to.beta_slow = rope.number("beta_slow", 1.0);
  to.truncate = rope.flag("truncate", true);
  if (rope.has("attention_factor")) to.attention_factor = rope.number("attention_factor", 1.0);
  to.mscale = rope.number("mscale", 0.0);
  to.mscale_all_dim = rope.number("mscale_all_dim", 0.0);
}

void read_llama3(HfKeys& rope, RopeConfig& to) {
  to.scaling = RopeScaling::kLlama3;
  to.low_freq_factor = rope.number("low_freq_factor", to.low_freq_factor);
  to.high_freq_factor = rope.number("high_freq_factor", to.high_freq_factor);
}

void read_scaling(HfKeys& rope, const std::string& type, const std::string& type_key, ModelConfig& model) {
  auto& to = model.rope;
  if (type == "default") {
    rope.ignore({"original_max_position_embeddings"});  // nothing is stretched
    return;
  }
  if (type == "linear") {
    to.scaling = RopeScaling::kLinear;
  } else if (type == "llama3") {
    read_llama3(rope, to);
  } else if (type == "yarn") {
    read_yarn(rope, to);
  } else {
    rope.refuse(type_key, "is not a scaling of rotary positions that this program has; it has default, linear, llama3, yarn");
  }
  to.factor = rope.number("factor", 1.0);
  to.original_length = rope.natural("original_max_position_embeddings", model.max_sequence_length);
}

}  // namespace

void read_rope(HfKeys& keys, const HfClass& hf, ModelConfig& model) {
  const auto parameters = find_parameters(keys, hf.family);
  HfKeys rope(parameters.object, parameters.place);
  const std::string type_key = rope.has("rope_type") ? "rope_type" : "type";
  const auto type = rope.text(type_key, "default");
  rope.ignore({"type", "rope_type"});
  model.rope_theta = rope.number("rope_theta", keys.number("rope_theta", hf.rope_theta));
  const std::string whole_heads = "rotary positions of a part of a head's width are nothing that this family has";
  keys.expect("partial_rotary_factor", 1.0, whole_heads);
  rope.expect("partial_rotary_factor", 1.0, whole_heads);
  read_scaling(rope, type, type_key, model);
  rope.refuse_others("a rope of the type " + type);
}

}  // namespace switchyard
