// How one value of the configuration is read from YAML, written back and described. Each type has read(node, value), which returns what is
// wrong ("is not a whole number; ...") or nothing, write(value), which gives YAML on one line, and type() and range() for the reference.
// Scalars are parsed here and not by the YAML library: no octal, no underscores, no numbers in quotes, no yes/no, nothing rounded.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/model_config.h"
#include "training/yaml_reader.h"

namespace switchyard {

/// What is wrong with a value, as the end of the sentence "key = value ..."; none = good.
using Problem = std::optional<std::string>;

/// Decimal digits with an optional sign; 1e3 and 1.5e3 where they are exact. None: anything else, a leading zero, more than 64 bits.
std::optional<int64_t> parse_integer(std::string_view text);
/// A finite decimal number. None: anything else, also what overflows or underflows a double.
std::optional<double> parse_number(std::string_view text);
/// The shortest text that reads back to the same bits.
std::string number_text(double value);
/// In double quotes, with escapes.
std::string quoted_text(const std::string& text);
/// "a, b, c"
std::string join(const std::vector<std::string>& parts);
/// "[a, b, c]"
std::string list_text(const std::vector<std::string>& items);

struct IntegerValue {
  int64_t least = 0;
  int64_t most = std::numeric_limits<int64_t>::max();

  Problem read(const YamlNode& node, int64_t& value) const;
  std::string write(int64_t value) const { return std::to_string(value); }
  std::string type() const { return "integer"; }
  std::string range() const;
};

struct NumberValue {
  double least = 0.0;
  double most = std::numeric_limits<double>::infinity();
  bool least_excluded = false;
  bool most_excluded = false;

  Problem read(const YamlNode& node, double& value) const;
  std::string write(double value) const { return number_text(value); }
  std::string type() const { return "number"; }
  std::string range() const;
};

/// A number, or null for "none".
struct OptionalNumberValue {
  NumberValue number;

  Problem read(const YamlNode& node, std::optional<double>& value) const;
  std::string write(const std::optional<double>& value) const { return value ? number_text(*value) : "null"; }
  std::string type() const { return "number or null"; }
  std::string range() const { return number.range(); }
};

/// A number of 0 or more, or a map of steps to such numbers, which are joined by straight lines: `{0: 0.01, 1000: 0.001}`.
struct CoefficientValue {
  Problem read(const YamlNode& node, Coefficient& value) const;
  std::string write(const Coefficient& value) const;
  std::string type() const { return "number, or map of steps to numbers"; }
  std::string range() const { return "0 or more"; }
};

struct BooleanValue {
  Problem read(const YamlNode& node, bool& value) const;
  std::string write(bool value) const { return value ? "true" : "false"; }
  std::string type() const { return "true or false"; }
  std::string range() const { return ""; }
};

struct TextValue {
  Problem read(const YamlNode& node, std::string& value) const;
  std::string write(const std::string& value) const { return quoted_text(value); }
  std::string type() const { return "text"; }
  std::string range() const { return "not empty"; }
};

/// A text, or null for "none".
struct OptionalTextValue {
  Problem read(const YamlNode& node, std::optional<std::string>& value) const;
  std::string write(const std::optional<std::string>& value) const { return value ? quoted_text(*value) : "null"; }
  std::string type() const { return "text or null"; }
  std::string range() const { return ""; }
};

/// One text or a list of texts.
struct TextListValue {
  bool may_be_empty = false;

  Problem read(const YamlNode& node, std::vector<std::string>& value) const;
  std::string write(const std::vector<std::string>& value) const;
  std::string type() const { return "text or list of texts"; }
  std::string range() const { return may_be_empty ? "" : "not empty"; }
};

/// One of a fixed set of words (or of lists of words, such as `[choice, position]`), each standing for a value.
template <class Value>
struct WordValue {
  std::vector<std::pair<std::string, Value>> words;

  Problem read(const YamlNode& node, Value& value) const {
    const std::string text = describe(node);
    for (const auto& [word, meaning] : words) {
      if (word != text) continue;
      value = meaning;
      return std::nullopt;
    }
    return "is not one of " + range();
  }

  std::string write(const Value& value) const {
    for (const auto& [word, meaning] : words) {
      if (meaning == value) return word;
    }
    return "";
  }

  std::string type() const { return "word"; }
  std::string range() const {
    std::vector<std::string> names;
    for (const auto& [word, meaning] : words) names.push_back(word);
    return join(names);
  }
};

/// A map of block numbers to numbers of experts: `{2: 16, 3: 32}`. `{}` = none.
struct ExpertsByLayerValue {
  Problem read(const YamlNode& node, std::map<int64_t, int64_t>& value) const;
  std::string write(const std::map<int64_t, int64_t>& value) const;
  std::string type() const { return "map of block numbers to integers"; }
  std::string range() const { return "1 or more each"; }
};

/// `all`, `{every: n}`, `{first_dense: n}` or a list of block numbers.
struct LayerSetValue {
  Problem read(const YamlNode& node, LayerSet& value) const;
  std::string write(const LayerSet& value) const;
  std::string type() const { return "word, map or list"; }
  std::string range() const { return "all, {every: n}, {first_dense: n}, [block, ...]"; }
};

/// The n of one kind of pattern: what the aliases `model.moe.every` and `model.moe.first_dense` hold.
struct LayerCountValue {
  LayerSet::Kind kind;

  Problem read(const YamlNode& node, LayerSet& value) const;
  std::string write(const LayerSet& value) const { return std::to_string(value.count); }
  std::string type() const { return "integer"; }
  std::string range() const { return count_range().range(); }

 private:
  IntegerValue count_range() const { return {.least = kind == LayerSet::Kind::kEvery ? 1 : 0}; }
};

/// `{sequences: n}` or `micro_batch`.
struct CapacityGroupValue {
  Problem read(const YamlNode& node, CapacityGroup& value) const;
  std::string write(const CapacityGroup& value) const;
  std::string type() const { return "word or map"; }
  std::string range() const { return "{sequences: n}, micro_batch"; }
};

}  // namespace switchyard
