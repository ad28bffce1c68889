#include "training/config_reader.h"

#include <algorithm>
#include <numeric>

#include "training/config_schema.h"

namespace switchyard {
namespace {

/// Levenshtein's: insertions, deletions and replacements of one letter.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = std::exchange(row[j + 1], std::min({replaced, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

std::vector<std::string> all_names() {
  std::vector<std::string> names = {kSourcesKey};
  for (const auto& key : config_keys()) names.push_back(key.name);
  for (const auto& section : config_sections()) {
    if (!section.name.empty()) names.push_back(section.name);
  }
  return names;
}

/// What an unknown `name` may have meant: a similar word in its section, else the same word elsewhere, else all that its section knows.
std::string suggestion(const std::string& name, const std::vector<std::string>& known_names) {
  const std::string leaf = leaf_of(name);
  std::vector<std::string> siblings;
  std::vector<std::string> namesakes;
  for (const std::string& known : known_names) {
    if (section_of(known) == section_of(name)) siblings.push_back(known);
    if (leaf_of(known) == leaf) namesakes.push_back(known);
  }
  const auto distance = [&](const std::string& known) { return edit_distance(leaf, leaf_of(known)); };
  const auto nearest = std::ranges::min_element(siblings, {}, distance);
  if (nearest != siblings.end() && distance(*nearest) <= std::max<size_t>(1, leaf.size() / 3)) return "did you mean " + *nearest + "?";
  if (!namesakes.empty()) return "did you mean " + join(namesakes) + "?";
  return "known here: " + join(siblings);
}

class ConfigReader {
 public:
  ConfigReader(RunConfig& config, ConfigFaults& faults) : config_(config), faults_(faults) {}

  GivenKeys read(const YamlNode& root) {
    read_section(root, /*section=*/"");
    check_aliases();
    check_conditions();
    check_required();
    return std::move(given_);
  }

 private:
  void read_section(const YamlNode& node, const std::string& section) {
    if (section == "model.moe" && node.kind == YamlNode::Kind::kMap) config_.model.moe.emplace();
    for (const YamlEntry& entry : node.entries) read_entry(entry, section.empty() ? entry.key : section + "." + entry.key);
  }

  void read_entry(const YamlEntry& entry, const std::string& name) {
    given_.add(name, entry.line);
    if (name == kSourcesKey) return read_sources(entry.value);
    if (std::ranges::find(config_sections(), name, &ConfigSection::name) != config_sections().end()) {
      const bool is_section = entry.value.kind == YamlNode::Kind::kMap || entry.value.kind == YamlNode::Kind::kNull;
      if (is_section) return read_section(entry.value, name);
      return faults_.add_value(entry.line, name, describe(entry.value), "is not a section; write its keys in the lines below, indented");
    }
    const auto key = std::ranges::find(config_keys(), name, &ConfigKey<RunConfig>::name);
    if (key == config_keys().end()) return refuse_unknown(entry, name, suggestion(name, all_names()));
    read_value(*key, name, entry, config_);
  }

  void refuse_unknown(const YamlEntry& entry, const std::string& name, const std::string& advice) {
    const bool is_section = entry.value.kind == YamlNode::Kind::kMap;
    if (is_section) return faults_.add(entry.line, name, name + " is not a known section; " + advice);
    faults_.add_value(entry.line, name, describe(entry.value), "is not a known key; " + advice);
  }

  template <class Root>
  void read_value(const ConfigKey<Root>& key, const std::string& name, const YamlEntry& entry, Root& root) {
    const Problem problem = key.read(entry.value, root);
    if (problem) faults_.add_value(entry.line, name, describe(entry.value), *problem);
  }

  void read_sources(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kList || node.items.empty()) {
      return faults_.add_value(node.line, kSourcesKey, describe(node),
                               "is not a list of sources; write at least one: - {name: ..., path: ...}");
    }
    for (const YamlNode& item : node.items) read_source(item, std::ssize(config_.data.sources));
  }

  void read_source(const YamlNode& item, size_t index) {
    DataSource& source = config_.data.sources.emplace_back();
    const std::string place = std::string(kSourcesKey) + "[" + std::to_string(index) + "]";
    given_.add(place, item.line);
    if (item.kind != YamlNode::Kind::kMap) {
      return faults_.add_value(item.line, place, describe(item), "is not a source; write it such as {name: ..., path: ...}");
    }
    std::vector<std::string> known_names;
    for (const auto& key : source_keys()) known_names.push_back(source_key_name(index, key.name));
    for (const YamlEntry& entry : item.entries) {
      const std::string name = source_key_name(index, entry.key);
      given_.add(name, entry.line);
      const auto key = std::ranges::find(source_keys(), entry.key, &ConfigKey<DataSource>::name);
      if (key == source_keys().end()) {
        refuse_unknown(entry, name, suggestion(name, known_names));
      } else {
        read_value(*key, name, entry, source);
      }
    }
    for (const auto& key : source_keys()) require(key, source_key_name(index, key.name));
  }

  template <class Root>
  void require(const ConfigKey<Root>& key, const std::string& name) {
    if (key.required && !given_.contains(name))
      faults_.add(given_.line_of(name), name, name + " is missing; state it (" + key.type + "): " + key.help);
  }

  void check_required() {
    for (const auto& key : config_keys()) {
      if (key.applies(config_)) require(key, key.name);
    }
    if (!given_.contains(kSourcesKey) && !faults_.is_bad(kSourcesKey)) {
      faults_.add(given_.line_of(kSourcesKey), kSourcesKey,
                  std::string(kSourcesKey) + " is missing; name at least one: - {name: ..., path: ...}");
    }
  }

  void check_aliases() {
    for (const auto& key : config_keys()) {
      if (key.alias_of.empty() || !given_.contains(key.name)) continue;
      if (given_.contains(key.alias_of)) {
        faults_.add(given_.line_of(key.name), key.alias_of,
                    key.name + " says what " + key.alias_of + " or another short form of it says already; keep one");
      }
      given_.add(key.alias_of, given_.line_of(key.name));
    }
  }

  void check_conditions() {
    for (const auto& key : config_keys()) {
      if (key.condition_key.empty() || !given_.contains(key.name) || key.applies(config_)) continue;
      if (faults_.is_bad(key.name) || faults_.is_bad(key.condition_key)) continue;
      faults_.add_value(
          given_.line_of(key.name), key.name, key.write(config_),
          "has no effect unless " + key.condition_key + " " + key.condition + "; remove it (on the command line: " + key.name + "=null)");
    }
  }

  RunConfig& config_;
  ConfigFaults& faults_;
  GivenKeys given_;
};

}  // namespace

GivenKeys read_config(const YamlNode& root, RunConfig& config, ConfigFaults& faults) {
  return ConfigReader(config, faults).read(root);
}

}  // namespace switchyard
