// Values that are more than a scalar: patterns of layers, capacity groups, coefficients that change.
#include "training/config_value.h"

namespace switchyard {
namespace {

/// The value of a map with exactly one entry, `key`.
const YamlNode* only_entry(const YamlNode& node, const std::string& key) {
  const bool matches = node.kind == YamlNode::Kind::kMap && node.entries.size() == 1 && node.entries.front().key == key;
  return matches ? &node.entries.front().value : nullptr;
}

}  // namespace

Problem CoefficientValue::read(const YamlNode& node, Coefficient& value) const {
  if (node.kind != YamlNode::Kind::kMap) {
    double number = 0.0;
    if (Problem problem = NumberValue{}.read(node, number)) return problem;
    value = number;
    return std::nullopt;
  }
  std::vector<std::pair<int64_t, double>> points;
  for (const YamlEntry& entry : node.entries) {
    const auto step = parse_integer(entry.key);
    if (!step || *step < 0) return "has the step " + entry.key + ", which is not a whole number of 0 or more";
    if (!points.empty() && *step <= points.back().first) return "has steps that do not ascend; write each once, the smallest first";
    double number = 0.0;
    if (Problem problem = NumberValue{}.read(entry.value, number)) return "has the value " + describe(entry.value) + ", which " + *problem;
    points.emplace_back(*step, number);
  }
  if (points.empty()) return "is empty; write a number, or {step: number, ...}";
  value = Coefficient(std::move(points));
  return std::nullopt;
}

std::string CoefficientValue::write(const Coefficient& value) const {
  if (value.points.size() == 1) return number_text(value.points.front().second);
  std::vector<std::string> entries;
  for (const auto& [step, number] : value.points) entries.push_back(std::to_string(step) + ": " + number_text(number));
  return "{" + join(entries) + "}";
}

Problem ExpertsByLayerValue::read(const YamlNode& node, std::map<int64_t, int64_t>& value) const {
  if (node.kind != YamlNode::Kind::kMap) return "is not a map; write {block: experts, ...}";
  std::map<int64_t, int64_t> counts;
  for (const YamlEntry& entry : node.entries) {
    const auto block = parse_integer(entry.key);
    if (!block || *block < 0) return "has the block " + entry.key + ", which is not a whole number of 0 or more";
    int64_t count = 0;
    if (Problem problem = IntegerValue{.least = 1}.read(entry.value, count))
      return "has the value " + describe(entry.value) + ", which " + *problem;
    if (!counts.emplace(*block, count).second) return "names block " + entry.key + " twice";
  }
  value = std::move(counts);
  return std::nullopt;
}

std::string ExpertsByLayerValue::write(const std::map<int64_t, int64_t>& value) const {
  std::vector<std::string> entries;
  for (const auto& [block, count] : value) entries.push_back(std::to_string(block) + ": " + std::to_string(count));
  return "{" + join(entries) + "}";
}

Problem LayerSetValue::read(const YamlNode& node, LayerSet& value) const {
  if (const YamlNode* count = only_entry(node, "every")) return LayerCountValue{LayerSet::Kind::kEvery}.read(*count, value);
  if (const YamlNode* count = only_entry(node, "first_dense")) return LayerCountValue{LayerSet::Kind::kFirstDense}.read(*count, value);
  if (describe(node) == "all") {
    value = {};
    return std::nullopt;
  }
  if (node.kind != YamlNode::Kind::kList) return "is not one of " + range();
  LayerSet layers = {.kind = LayerSet::Kind::kList};
  for (const YamlNode& item : node.items) {
    int64_t layer = 0;
    if (Problem problem = IntegerValue{}.read(item, layer)) return "has the item " + describe(item) + ", which " + *problem;
    layers.list.push_back(layer);
  }
  value = std::move(layers);
  return std::nullopt;
}

std::string LayerSetValue::write(const LayerSet& value) const {
  switch (value.kind) {
    case LayerSet::Kind::kEvery:
      return value.count == 1 ? "all" : "{every: " + std::to_string(value.count) + "}";
    case LayerSet::Kind::kFirstDense:
      return "{first_dense: " + std::to_string(value.count) + "}";
    case LayerSet::Kind::kList:
      break;
  }
  std::vector<std::string> layers;
  for (const int64_t layer : value.list) layers.push_back(std::to_string(layer));
  return list_text(layers);
}

Problem LayerCountValue::read(const YamlNode& node, LayerSet& value) const {
  int64_t count = 0;
  if (Problem problem = count_range().read(node, count)) return problem;
  value = {.kind = kind, .count = count};
  return std::nullopt;
}

Problem CapacityGroupValue::read(const YamlNode& node, CapacityGroup& value) const {
  if (describe(node) == "micro_batch") {
    value.sequences = 0;
    return std::nullopt;
  }
  const YamlNode* sequences = only_entry(node, "sequences");
  if (sequences == nullptr) return "is not one of " + range();
  return IntegerValue{.least = 1}.read(*sequences, value.sequences);
}

std::string CapacityGroupValue::write(const CapacityGroup& value) const {
  return value.sequences == 0 ? "micro_batch" : "{sequences: " + std::to_string(value.sequences) + "}";
}

}  // namespace switchyard
