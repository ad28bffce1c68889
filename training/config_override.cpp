#include <algorithm>

#include "training/config_reader.h"
#include "training/config_schema.h"

namespace switchyard {
namespace {

void move_to_command_line(YamlNode& node) {
  node.line = kCommandLine;
  for (YamlNode& item : node.items) move_to_command_line(item);
  for (YamlEntry& entry : node.entries) {
    entry.line = kCommandLine;
    move_to_command_line(entry.value);
  }
}

std::vector<YamlEntry>::iterator find_entry(YamlNode& map, const std::string& key) {
  return std::ranges::find(map.entries, key, &YamlEntry::key);
}

YamlNode& find_or_add(YamlNode& map, const std::string& key) {
  map.kind = YamlNode::Kind::kMap;
  auto entry = find_entry(map, key);
  if (entry == map.entries.end()) entry = map.entries.insert(entry, {key, kCommandLine, {.line = kCommandLine}});
  return entry->value;
}

void set_value(YamlNode& map, const std::string& full_key, YamlNode value) {
  const std::string leaf = leaf_of(full_key);
  const auto entry = find_entry(map, leaf);
  // Null goes back to the default; an unknown key stays, so that reading refuses it.
  const bool remove = value.kind == YamlNode::Kind::kNull && is_config_name(full_key);
  if (entry != map.entries.end()) map.entries.erase(entry);
  if (!remove) find_or_add(map, leaf) = std::move(value);
}

/// The section that holds `full_key`, made where it is not there; null where the file has something else in its place.
YamlNode* find_section(YamlNode& root, const std::string& full_key) {
  YamlNode* node = &root;
  for (size_t begin = 0, end; (end = full_key.find('.', begin)) != std::string::npos; begin = end + 1) {
    node = &find_or_add(*node, full_key.substr(begin, end - begin));
    if (node->kind != YamlNode::Kind::kMap && node->kind != YamlNode::Kind::kNull) return nullptr;
  }
  return node;
}

}  // namespace

void apply_override(const std::string& override_text, YamlNode& root, ConfigFaults& faults) {
  const size_t equals = override_text.find('=');
  if (equals == 0 || equals == std::string::npos || equals + 1 == override_text.size()) {
    faults.add(kCommandLine, "'" + override_text + "' is not key=value; write it such as training.steps=100");
    return;
  }
  const std::string key = override_text.substr(0, equals);
  const std::string value_text = override_text.substr(equals + 1);
  YamlDocument value = parse_yaml(value_text);
  for (const YamlFault& fault : value.faults) faults.add_value(kCommandLine, key, value_text, fault.problem);
  if (!value.complete) return;
  YamlNode* section = find_section(root, key);
  if (section == nullptr) {
    faults.add_value(kCommandLine, key, value_text, "cannot be set, because " + section_of(key) + " is not a section");
    return;
  }
  move_to_command_line(value.root);
  set_value(*section, key, std::move(value.root));
}

}  // namespace switchyard
