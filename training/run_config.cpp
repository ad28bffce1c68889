#include "training/run_config.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include <c10/util/Exception.h>

#include "training/config_reader.h"
#include "training/config_schema.h"
#include "training/run_config_checks.h"

namespace switchyard {
namespace {

YamlNode tree_of(YamlDocument document, const std::vector<std::string>& overrides, ConfigFaults& faults) {
  for (const YamlFault& fault : document.faults) faults.add(fault.line, fault.problem);
  const YamlNode::Kind kind = document.root.kind;
  if (document.complete && kind == YamlNode::Kind::kNull) faults.add(0, "is empty; see docs/configuration.md for what belongs into it");
  if (kind == YamlNode::Kind::kScalar || kind == YamlNode::Kind::kList)
    faults.add(document.root.line, "is not a list of sections, such as model: and training:");
  // Without a tree every key would be reported as missing.
  if (kind != YamlNode::Kind::kMap) faults.throw_if_any();
  for (const std::string& override_text : overrides) apply_override(override_text, document.root, faults);
  return std::move(document.root);
}

void fill_head_sizes(ModelConfig& model, const GivenKeys& given, ConfigFaults& faults) {
  if (!given.contains("model.num_key_value_heads")) model.num_key_value_heads = model.num_attention_heads;
  if (given.contains("model.head_dim")) return;
  if (model.hidden_size % model.num_attention_heads == 0) {
    model.head_dim = model.hidden_size / model.num_attention_heads;
  } else if (!faults.is_bad("model.hidden_size") && !faults.is_bad("model.num_attention_heads")) {
    const std::string key = "model.num_attention_heads";
    faults.add_value(
        given.line_of(key), key, std::to_string(model.num_attention_heads),
        "does not divide model.hidden_size = " + std::to_string(model.hidden_size) + "; use a divisor, or state model.head_dim");
  }
}

/// Defaults that depend on other keys.
void fill_defaults(RunConfig& config, const std::string& path, const GivenKeys& given, ConfigFaults& faults) {
  if (!given.contains("name")) config.name = std::filesystem::path(path).stem().string();
  if (!given.contains("data.sequence_length")) config.data.sequence_length = config.model.max_sequence_length;
  if (config.model.moe && !given.contains("model.moe.activation")) config.model.moe->activation = config.model.activation;
  if (config.model.moe && !given.contains("model.moe.renormalize")) config.model.moe->renormalize = config.model.moe->top_k > 1;
  fill_head_sizes(config.model, given, faults);
}

/// Adds rules that join keys; those about a key that is faulty itself would only repeat it.
void check_rules(const RunConfig& config, int64_t world_size, const GivenKeys& given, ConfigFaults& faults) {
  std::vector<ConfigFault> found = find_faults(config.model);
  std::ranges::move(find_run_faults(config, world_size), std::back_inserter(found));
  std::erase_if(found, [&](const ConfigFault& fault) {
    return faults.is_bad(fault.key) || std::ranges::any_of(fault.other_keys, [&](const std::string& key) { return faults.is_bad(key); });
  });
  const std::vector<ConfigValueText> values = config_values(config);
  for (const ConfigFault& fault : found) {
    const auto value = std::ranges::find(values, fault.key, &ConfigValueText::key);
    TORCH_INTERNAL_ASSERT(value != values.end(), "a rule names the key ", fault.key, ", which has no value");
    const std::string source = given.contains(fault.key) ? "" : " (the default)";
    faults.add_value(given.line_of(fault.key), fault.key, value->text + source, fault.problem);
  }
}

RunConfig config_of(YamlDocument document, const std::string& path, const std::vector<std::string>& overrides, int64_t world_size) {
  ConfigFaults faults(path);
  const YamlNode root = tree_of(std::move(document), overrides, faults);
  RunConfig config;
  const GivenKeys given = read_config(root, config, faults);
  fill_defaults(config, path, given, faults);
  check_rules(config, world_size, given, faults);
  faults.throw_if_any();
  return config;
}

}  // namespace

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides, int64_t world_size) {
  return config_of(parse_yaml_file(path), path, overrides, world_size);
}

RunConfig parse_run_config(const std::string& text, const std::string& name, const std::vector<std::string>& overrides,
                           int64_t world_size) {
  return config_of(parse_yaml(text), name, overrides, world_size);
}

}  // namespace switchyard
