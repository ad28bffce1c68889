// From a YAML tree and command-line overrides to the fields of a RunConfig, by the schema; collects every fault with its place.
#pragma once

#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "training/run_config.h"
#include "training/yaml_reader.h"

namespace switchyard {

/// Stands in for a line number where a value came from the command line; sorts behind all lines.
inline constexpr int64_t kCommandLine = std::numeric_limits<int64_t>::max();

/// Faults of one configuration, and the keys whose values are not to be trusted because of them.
class ConfigFaults {
 public:
  explicit ConfigFaults(std::string path) : path_(std::move(path)) {}

  /// `line` 0: the file as a whole.
  void add(int64_t line, const std::string& sentence);
  void add(int64_t line, const std::string& key, const std::string& sentence);
  /// "key = value problem"
  void add_value(int64_t line, const std::string& key, const std::string& value, const std::string& problem);
  /// Also of a section or list: something in it is bad.
  bool is_bad(const std::string& key) const;
  /// Errors: UserError with one line a fault, in the order of the file, those of the command line last.
  void throw_if_any() const;

 private:
  std::string path_;
  std::multimap<int64_t, std::string> faults_;
  std::set<std::string> bad_keys_;
};

/// Line of every key, section and source that was given.
class GivenKeys {
 public:
  void add(const std::string& key, int64_t line) { lines_.emplace(key, line); }
  bool contains(const std::string& key) const { return lines_.contains(key); }
  /// Of the key, or of the nearest section around it that was given; 0 if none.
  int64_t line_of(const std::string& key) const;

 private:
  std::map<std::string, int64_t> lines_;
};

/// Puts "a.b=value" into the tree, as if the file had said so; the last of equal keys wins. `a.b=null` takes the key out of the file.
void apply_override(const std::string& override_text, YamlNode& root, ConfigFaults& faults);

/// Reads all keys of `root` into `config`; fields whose keys are absent or faulty keep their defaults.
GivenKeys read_config(const YamlNode& root, RunConfig& config, ConfigFaults& faults);

}  // namespace switchyard
