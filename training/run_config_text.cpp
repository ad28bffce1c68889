// A RunConfig as text: the file that the run folder keeps, differences between jobs, and the reference of all keys.
#include <algorithm>

#include "core/hash.h"
#include "training/config_schema.h"
#include "training/run_config.h"

namespace switchyard {
namespace {

void append_sources(const std::vector<DataSource>& sources, std::string& text) {
  text += "  sources:\n";
  for (const DataSource& source : sources) {
    std::string indent = "    - ";
    for (const auto& key : source_keys()) {
      text += indent + key.name + ": " + key.write(source) + "\n";
      indent = "      ";
    }
  }
}

std::string indent_of_section(const std::string& section) {
  return section.empty() ? "" : std::string(2 * (1 + std::ranges::count(section, '.')), ' ');
}

std::vector<ConfigValueText> job_values(const RunConfig& config) {
  std::vector<ConfigValueText> values = config_values(config);
  std::erase_if(values, [](const ConfigValueText& value) { return value.role != KeyRole::kJob; });
  return values;
}

/// The text of `key`, or "(absent)".
std::string text_of(const std::string& key, const std::vector<ConfigValueText>& values) {
  const auto found = std::ranges::find(values, key, &ConfigValueText::key);
  return found == values.end() ? "(absent)" : found->text;
}

std::string as_code(const std::string& text) {
  std::string code(1, '`');
  code += text;
  code += '`';
  return code;
}

/// With an MoE section, so that every key has a field.
RunConfig default_config() {
  RunConfig config;
  config.model.moe.emplace();
  return config;
}

template <class Root>
std::string reference_row(const ConfigKey<Root>& key, const std::string& prefix, const Root& defaults) {
  std::string default_text = key.required ? "(required)" : key.default_text;
  if (default_text.empty() && key.alias_of.empty()) default_text = as_code(key.write(defaults));
  std::string help = key.help;
  if (!key.condition_key.empty()) help += " Only when " + as_code(key.condition_key) + " " + key.condition + ".";
  std::string row = "| ";
  row += as_code(prefix + leaf_of(key.name)) + " | " + key.type;
  if (!key.range.empty()) row += ": " + key.range;
  row += " | " + default_text + " | ";
  row += key.role == KeyRole::kJob ? "fixed" : "free";
  return row + " | " + help + " |\n";
}

}  // namespace

std::string to_yaml(const RunConfig& config) {
  std::string text;
  std::string section;
  for (const auto& key : config_keys()) {
    if (!key.alias_of.empty() || !key.applies(config)) continue;
    if (section_of(key.name) != section) {
      if (section == "data") append_sources(config.data.sources, text);
      section = section_of(key.name);
      const std::string indent = indent_of_section(section);
      text += indent.substr(0, indent.size() - 2) + leaf_of(section) + ":\n";
    }
    text += indent_of_section(section) + leaf_of(key.name) + ": " + key.write(config) + "\n";
  }
  return text;
}

std::vector<std::string> job_differences(const RunConfig& before, const RunConfig& after) {
  const auto old_values = job_values(before);
  const auto new_values = job_values(after);
  std::vector<std::string> differences;
  for (const ConfigValueText& value : old_values) {
    const std::string new_text = text_of(value.key, new_values);
    if (new_text != value.text) differences.push_back(value.key + ": " + value.text + " -> " + new_text);
  }
  for (const ConfigValueText& value : new_values) {
    const std::string old_text = text_of(value.key, old_values);
    if (old_text == "(absent)") differences.push_back(value.key + ": (absent) -> " + value.text);
  }
  return differences;
}

uint64_t job_hash(const RunConfig& config) {
  std::string text;
  for (const ConfigValueText& value : job_values(config)) text += value.key + ": " + value.text + "\n";
  return xxh3(text);
}

std::string configuration_reference() {
  std::string text =
      "# Configuration\n\n"
      "One YAML file describes a run. Any key can be set on the command line too, as `section.key=value`; the value is YAML\n"
      "(`model.moe.layers={every: 2}`), the last of equal keys wins, and `section.key=null` goes back to the default.\n"
      "Unknown, repeated and contradictory keys are errors. *Fixed* keys decide the answer of the job: a resumed run must not change "
      "them.\n";
  for (const ConfigSection& section : config_sections()) {
    text += "\n## " + (section.name.empty() ? "Top level" : as_code(section.name)) + "\n\n" + section.help + "\n\n";
    text += "| Key | Type and range | Default | On resume | Meaning |\n|---|---|---|---|---|\n";
    for (const auto& key : config_keys()) {
      if (section_of(key.name) == section.name) text += reference_row(key, /*prefix=*/"", default_config());
    }
    if (section.name != "data") continue;
    for (const auto& key : source_keys()) text += reference_row(key, /*prefix=*/"sources[].", DataSource{});
  }
  return text;
}

}  // namespace switchyard
