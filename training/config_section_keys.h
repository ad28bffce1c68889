// For the files that describe keys: adds the keys of one section to a list. Included by config_schema*.cpp only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "training/config_schema.h"

namespace switchyard {

using RunKeys = std::vector<ConfigKey<RunConfig>>;

inline constexpr int64_t kMaxSize = int64_t{1} << 24;
inline constexpr int64_t kMaxLength = (int64_t{1} << 31) - 1;

/// Adds the keys of one section. `Access` finds the section's struct in a Root, const or not.
template <class Root, class Access>
class SectionKeys {
 public:
  SectionKeys(std::vector<ConfigKey<Root>>& keys, std::string prefix, Access access)
      : keys_(keys), prefix_(std::move(prefix)), access_(std::move(access)) {}

  template <class Section, class Field, class ValueType>
  ConfigKey<Root>& add(const std::string& name, Field Section::*field, ValueType value_type, std::string help) {
    ConfigKey<Root>& key = keys_.emplace_back();
    key.name = prefix_ + name;
    key.type = value_type.type();
    key.range = value_type.range();
    key.help = std::move(help);
    key.read = [access = access_, field, value_type](const YamlNode& node, Root& root) {
      return value_type.read(node, access(root).*field);
    };
    key.write = [access = access_, field, value_type](const Root& root) { return value_type.write(access(root).*field); };
    return key;
  }

 private:
  std::vector<ConfigKey<Root>>& keys_;
  std::string prefix_;
  Access access_;
};

void add_model_keys(RunKeys& keys);
void add_attention_keys(RunKeys& keys);
void add_rope_keys(RunKeys& keys);
void add_moe_keys(RunKeys& keys);
void add_parallel_keys(RunKeys& keys);
void add_training_keys(RunKeys& keys);
void add_routing_keys(RunKeys& keys);
void add_watching_keys(RunKeys& keys);

}  // namespace switchyard
