// YAML as a configuration needs it, read strictly into a plain tree that remembers line numbers. The only file that knows yaml-cpp.
// Refused, with the line: duplicate keys, anchors, aliases, tags, several documents, control characters, byte order marks, trees deeper
// than 32 levels or of more than 100,000 nodes, and texts of more than 1 MiB. Scalars stay text; what they mean is decided by their reader.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

inline constexpr int64_t kMaxYamlBytes = int64_t{1} << 20;
inline constexpr int64_t kMaxYamlDepth = 32;
inline constexpr int64_t kMaxYamlNodes = 100'000;

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int64_t line = 0;                     ///< from 1
  std::string text = {};                ///< kScalar: as written, without quotes
  bool quoted = false;                  ///< kScalar: in quotes, or a block of text
  std::vector<YamlNode> items = {};     ///< kList
  std::vector<YamlEntry> entries = {};  ///< kMap, in the order of the text
};

struct YamlEntry {
  std::string key;
  int64_t line = 0;
  YamlNode value = {};
};

struct YamlFault {
  int64_t line = 0;  ///< 0 = the text as a whole
  std::string problem;
};

/// `complete` is false when reading had to stop (syntax, limits): then `root` is empty. Otherwise `root` is whole but for what the faults
/// name.
struct YamlDocument {
  YamlNode root;
  std::vector<YamlFault> faults;
  bool complete = true;
};

YamlDocument parse_yaml(const std::string& text);

/// The same for a file. A file that cannot be read is a fault too; one of more than 1 MiB is not read at all.
YamlDocument parse_yaml_file(const std::string& path);

/// A node as one line of YAML (flow style, scalars without quotes), for messages.
std::string describe(const YamlNode& node);

}  // namespace switchyard
