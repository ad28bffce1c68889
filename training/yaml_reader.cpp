#include "training/yaml_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

namespace switchyard {
namespace {

int64_t line_of(const YAML::Mark& mark) {
  return mark.line + 1;
}

/// Thrown through the parser where going on makes no sense.
struct StopReading {
  YamlFault fault;
};

/// Turns the parser's events into a tree.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::vector<YamlFault>& faults) : faults_(faults) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (num_documents_++ > 0) stop(mark, "a second document begins here; keep one document a file");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { place(make_node(YamlNode::Kind::kNull, mark, /*tag=*/"", anchor)); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    add_fault(mark, "aliases (*name) are not allowed; write the value out");
    place(make_node(YamlNode::Kind::kNull, mark, /*tag=*/"", YAML::NullAnchor));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    YamlNode node = make_node(YamlNode::Kind::kScalar, mark, tag, anchor);
    node.text = value;
    node.quoted = tag != "?";
    place(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(make_node(YamlNode::Kind::kList, mark, tag, anchor), mark);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(make_node(YamlNode::Kind::kMap, mark, tag, anchor), mark);
  }
  void OnMapEnd() override { close(); }

 private:
  /// A list or map whose end has not been seen.
  struct OpenNode {
    YamlNode node;
    bool has_key = false;  ///< a map: the next node is the value of `key`
    bool drop_value = false;
    YamlEntry key;
    std::map<std::string, int64_t> lines_of_keys;
  };

  [[noreturn]] static void stop(const YAML::Mark& mark, std::string problem) { throw StopReading{{line_of(mark), std::move(problem)}}; }

  void add_fault(const YAML::Mark& mark, std::string problem) { faults_.push_back({line_of(mark), std::move(problem)}); }

  YamlNode make_node(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (++num_nodes_ > kMaxYamlNodes) stop(mark, "there are more than " + std::to_string(kMaxYamlNodes) + " values");
    if (anchor != YAML::NullAnchor) add_fault(mark, "anchors (&name) are not allowed; write the value out");
    // The parser's own words: "?" for plain, "!" for quoted.
    if (!tag.empty() && tag != "?" && tag != "!") add_fault(mark, "tags (" + tag + ") are not allowed; remove it");
    YamlNode node;
    node.kind = kind;
    node.line = line_of(mark);
    return node;
  }

  void open(YamlNode node, const YAML::Mark& mark) {
    if (std::ssize(open_nodes_) == kMaxYamlDepth) {
      stop(mark, "lists and maps are nested more than " + std::to_string(kMaxYamlDepth) + " deep");
    }
    open_nodes_.emplace_back().node = std::move(node);
  }

  void close() {
    YamlNode node = std::move(open_nodes_.back().node);
    open_nodes_.pop_back();
    place(std::move(node));
  }

  void place(YamlNode node) {
    if (open_nodes_.empty()) {
      root_ = std::move(node);
    } else if (OpenNode& parent = open_nodes_.back(); parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.has_key) {
      place_value(parent, std::move(node));
    } else {
      place_key(parent, node);
    }
  }

  void place_value(OpenNode& parent, YamlNode node) {
    parent.has_key = false;
    if (parent.drop_value) return;
    // The parser reports an absent value at the next token, which may stand lines below.
    if (node.kind == YamlNode::Kind::kNull) node.line = parent.key.line;
    parent.key.value = std::move(node);
    parent.node.entries.push_back(std::move(parent.key));
  }

  void place_key(OpenNode& parent, const YamlNode& node) {
    parent.has_key = true;
    parent.drop_value = true;
    if (node.kind != YamlNode::Kind::kScalar) {
      faults_.push_back({node.line, "a key must be a plain word"});
      return;
    }
    parent.key = {node.text, node.line, {}};
    const auto [first, is_new] = parent.lines_of_keys.emplace(node.text, node.line);
    parent.drop_value = !is_new;
    if (!is_new) {
      faults_.push_back({node.line, path_of_open_key() + " is given twice, first in line " + std::to_string(first->second) + "; keep one"});
    }
  }

  std::string path_of_open_key() const {
    std::string path;
    for (const OpenNode& open_node : open_nodes_) {
      if (open_node.node.kind == YamlNode::Kind::kMap) path += (path.empty() ? "" : ".") + open_node.key.key;
    }
    return path;
  }

  std::vector<YamlFault>& faults_;
  std::vector<OpenNode> open_nodes_;
  YamlNode root_;
  int64_t num_nodes_ = 0;
  int64_t num_documents_ = 0;
};

/// yaml-cpp decodes UTF-16 and takes byte 4 for the end of the text, so such bytes must not reach it.
bool find_forbidden_bytes(const std::string& text, std::vector<YamlFault>& faults) {
  for (const std::string_view mark : {"\xEF\xBB\xBF", "\xFE\xFF", "\xFF\xFE"}) {
    if (text.starts_with(mark)) {
      faults.push_back({1, "the text begins with a byte order mark; save it as UTF-8 without one"});
      return true;
    }
  }
  const auto is_forbidden = [](unsigned char byte) { return byte == 127 || (byte < 32 && byte != '\t' && byte != '\n' && byte != '\r'); };
  const auto found = std::find_if(text.begin(), text.end(), is_forbidden);
  if (found == text.end()) return false;
  const int64_t line = 1 + std::count(text.begin(), found, '\n');
  faults.push_back({line, "there is a control character (byte " + std::to_string(static_cast<unsigned char>(*found)) + "); remove it"});
  return true;
}

YamlDocument stopped(std::vector<YamlFault> faults) {
  return {.root = {}, .faults = std::move(faults), .complete = false};
}

}  // namespace

YamlDocument parse_yaml(const std::string& text) {
  std::vector<YamlFault> faults;
  if (std::ssize(text) > kMaxYamlBytes) return stopped({{0, "is larger than 1 MiB"}});
  if (find_forbidden_bytes(text, faults)) return stopped(std::move(faults));
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    TreeBuilder builder(faults);
    while (parser.HandleNextDocument(builder)) {
    }
    return {.root = builder.take_root(), .faults = std::move(faults), .complete = true};
  } catch (const StopReading& stop) {
    faults.push_back(stop.fault);
  } catch (const YAML::Exception& error) {
    faults.push_back({error.mark.is_null() ? 0 : line_of(error.mark), "is not valid YAML: " + error.msg});
  }
  return stopped(std::move(faults));
}

YamlDocument parse_yaml_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return stopped({{0, "is a folder, not a file"}});
  std::ifstream file(path, std::ios::binary);
  if (!file) return stopped({{0, std::string("cannot be read: ") + std::strerror(errno)}});
  // One byte more than allowed is enough for parse_yaml to refuse it, however large (or endless) the file is.
  std::string text(kMaxYamlBytes + 1, '\0');
  file.read(text.data(), std::ssize(text));
  text.resize(file.gcount());
  return parse_yaml(text);
}

std::string describe(const YamlNode& node) {
  std::string text;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return node.text;
    case YamlNode::Kind::kList:
      for (const YamlNode& item : node.items) text += (text.empty() ? "" : ", ") + describe(item);
      return "[" + text + "]";
    case YamlNode::Kind::kMap:
      for (const YamlEntry& entry : node.entries) text += (text.empty() ? "" : ", ") + entry.key + ": " + describe(entry.value);
      return "{" + text + "}";
  }
  return text;
}

}  // namespace switchyard
