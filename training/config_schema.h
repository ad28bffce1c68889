// The one description of all configuration keys: which field a key stands for, its type and range, whether it belongs to the job's answer,
// and a sentence of help. Reading, writing, comparing and documenting a configuration all go through it.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "training/config_value.h"
#include "training/run_config.h"

namespace switchyard {

/// `kJob` keys decide the job's answer; a resumed run must not change them. `kRun` keys only decide how it is run or watched.
enum class KeyRole { kJob, kRun };

/// A key of `Root`: the whole RunConfig, or one DataSource.
template <class Root>
struct ConfigKey {
  std::string name;  ///< in full: "model.moe.top_k"
  std::string type;
  std::string range;
  std::string help;
  KeyRole role = KeyRole::kJob;
  bool required = false;
  std::string default_text;   ///< for the reference, where the default depends on other keys
  std::string alias_of;       ///< another way to write that key: read, never written
  std::string condition_key;  ///< the key has a meaning only when that one...
  std::string condition;      ///< ... "is a number"
  std::function<bool(const Root&)> applies = [](const Root&) { return true; };
  std::function<Problem(const YamlNode&, Root&)> read;
  std::function<std::string(const Root&)> write;

  ConfigKey& as_run() { return role = KeyRole::kRun, *this; }
  ConfigKey& as_required() { return required = true, *this; }
  ConfigKey& defaulting_to(std::string text) { return default_text = std::move(text), *this; }
  ConfigKey& as_alias_of(std::string key) { return alias_of = std::move(key), *this; }
  ConfigKey& only_when(std::string key, std::string text, std::function<bool(const Root&)> predicate) {
    condition_key = std::move(key);
    condition = std::move(text);
    applies = std::move(predicate);
    return *this;
  }
};

struct ConfigSection {
  std::string name;  ///< "model.moe"; empty = the top level
  std::string help;
};

/// In the order in which they are written and documented.
const std::vector<ConfigSection>& config_sections();
const std::vector<ConfigKey<RunConfig>>& config_keys();
/// Keys of one entry of the list `data.sources`; names without a prefix.
const std::vector<ConfigKey<DataSource>>& source_keys();
inline constexpr const char* kSourcesKey = "data.sources";

/// "model.moe" for "model.moe.top_k"; empty for a key of the top level.
std::string section_of(const std::string& key);
/// The name inside its section: "top_k".
std::string leaf_of(const std::string& key);
/// Whether there is such a key, alias or section.
bool is_config_name(const std::string& name);
/// "data.sources[1].weight"
std::string source_key_name(size_t index, const std::string& leaf);

/// A value as it would be written, for every key that has a meaning in `config`. Sources stand entry by entry.
struct ConfigValueText {
  std::string key;
  std::string text;
  KeyRole role;
};
std::vector<ConfigValueText> config_values(const RunConfig& config);

}  // namespace switchyard
