// Reads a MixtureStudyConfig from YAML: a flat list of keys.
#include <functional>
#include <map>

#include "training/config_reader.h"
#include "training/config_value.h"
#include "training/mixture_study.h"

namespace switchyard {
namespace {

using Reader = std::function<Problem(const YamlNode& node, MixtureStudyConfig& config)>;

template <class Field, class ValueType>
Reader into(Field MixtureStudyConfig::*field, ValueType value_type) {
  return [field, value_type](const YamlNode& node, MixtureStudyConfig& config) { return value_type.read(node, config.*field); };
}

const std::map<std::string, Reader>& readers() {
  constexpr int64_t kMost = 1'000'000;
  constexpr double kHighest = 1e6;
  static const std::map<std::string, Reader> all = {
      {"num_experts", into(&MixtureStudyConfig::num_experts, IntegerValue{1, 1000})},
      {"loss", into(&MixtureStudyConfig::loss,
                    WordValue<MixtureLoss>{{{"competitive", MixtureLoss::kCompetitive}, {"cooperative", MixtureLoss::kCooperative}}})},
      {"sigma", into(&MixtureStudyConfig::sigma, NumberValue{.most = kHighest, .least_excluded = true})},
      {"pieces", into(&MixtureStudyConfig::pieces, IntegerValue{1, 1000})},
      {"cases", into(&MixtureStudyConfig::cases, IntegerValue{1, kMost})},
      {"noise", into(&MixtureStudyConfig::noise, NumberValue{.most = kHighest})},
      {"steps", into(&MixtureStudyConfig::steps, IntegerValue{1, kMost})},
      {"learning_rate", into(&MixtureStudyConfig::learning_rate, NumberValue{.most = kHighest, .least_excluded = true})},
      {"seed", into(&MixtureStudyConfig::seed, IntegerValue{})}};
  return all;
}

std::string known_keys() {
  std::vector<std::string> names;
  for (const auto& [name, reader] : readers()) names.push_back(name);
  return join(names);
}

}  // namespace

MixtureStudyConfig load_mixture_study(const std::string& path) {
  ConfigFaults faults(path);
  const auto document = parse_yaml_file(path);
  for (const auto& fault : document.faults) faults.add(fault.line, fault.problem);
  if (document.root.kind != YamlNode::Kind::kMap) faults.add(document.root.line, "is not a list of keys; known: " + known_keys());
  MixtureStudyConfig config;
  for (const auto& [key, line, value] : document.root.entries) {
    const auto reader = readers().find(key);
    const Problem problem = reader == readers().end() ? "is not a known key; known here: " + known_keys() : reader->second(value, config);
    if (problem) faults.add_value(line, key, describe(value), *problem);
  }
  faults.throw_if_any();
  return config;
}

}  // namespace switchyard
