#include "training/config_schema.h"

#include <algorithm>

#include "training/config_section_keys.h"

namespace switchyard {
namespace {

void add_top_level_keys(RunKeys& keys) {
  SectionKeys top(
      keys, "", [](auto& config) -> auto& { return config; });
  top.add("config_version", &RunConfig::config_version, IntegerValue{.least = 1, .most = 1}, "Version of this format.").as_run();
  top.add("name", &RunConfig::name, TextValue{}, "Name of the run folder: `runs/<name>`.")
      .as_run()
      .defaulting_to("the file's name without its ending");
}

void add_data_keys(RunKeys& keys) {
  SectionKeys data(
      keys, "data.", [](auto& config) -> auto& { return config.data; });
  data.add("format", &DataConfig::format, WordValue<DataFormat>{{{"text", DataFormat::kText}, {"tokens", DataFormat::kTokens}}},
           "text: raw bytes, read by the byte tokenizer. tokens: Megatron .bin/.idx pairs or headerless token ids.");
  data.add("token_dtype", &DataConfig::token_dtype, WordValue<std::string>{{{"uint16", "uint16"}, {"uint32", "uint32"}}},
           "Type of the ids in headerless files.")
      .only_when("data.format", "is tokens", [](const RunConfig& config) { return config.data.format == DataFormat::kTokens; });
  data.add("sequence_length", &DataConfig::sequence_length, IntegerValue{1, kMaxLength}, "Tokens of one training sequence.")
      .defaulting_to("model.max_sequence_length");
  data.add(
      "reset_attention_mask", &DataConfig::reset_attention_mask, BooleanValue{},
      "Attention does not look across an end-of-document token, which .bin files name in their .meta.json. In training, evaluation and "
      "generation of text; a prompt of token ids is one document.");
  data.add("reset_position_ids", &DataConfig::reset_position_ids, BooleanValue{},
           "Positions start at 0 again behind an end-of-document token; known and used as for reset_attention_mask.");
}

void add_optimizer_keys(RunKeys& keys) {
  SectionKeys optimizer(
      keys, "optimizer.", [](auto& config) -> auto& { return config.optimizer; });
  const NumberValue below_one = {.most = 1.0, .most_excluded = true};
  optimizer.add("learning_rate", &OptimizerConfig::learning_rate, NumberValue{.least_excluded = true}, "Peak of the schedule.");
  optimizer.add("beta1", &OptimizerConfig::beta1, below_one, "Decay of AdamW's mean of gradients.");
  optimizer.add("beta2", &OptimizerConfig::beta2, below_one, "Decay of AdamW's mean of squared gradients.");
  optimizer.add("eps", &OptimizerConfig::eps, NumberValue{.least_excluded = true}, "Added to the root of the squared mean.");
  optimizer.add("weight_decay", &OptimizerConfig::weight_decay, NumberValue{}, "Decoupled weight decay; not on norms and biases.");
  optimizer.add("clip_grad_norm", &OptimizerConfig::clip_grad_norm, NumberValue{}, "Largest global gradient norm; 0 = no clipping.");
}

void add_schedule_keys(RunKeys& keys) {
  using Kind = ScheduleKind;
  SectionKeys schedule(
      keys, "schedule.", [](auto& config) -> auto& { return config.schedule; });
  schedule.add("kind", &ScheduleConfig::kind,
               WordValue<Kind>{{{"constant", Kind::kConstant}, {"cosine", Kind::kCosine}, {"linear", Kind::kLinear}, {"wsd", Kind::kWsd}}},
               "Shape of the learning rate after the warm-up. wsd: constant, then a final decay.");
  schedule.add("warmup_steps", &ScheduleConfig::warmup_steps, IntegerValue{},
               "Steps over which the learning rate rises linearly to its peak.");
  schedule.add("min_ratio", &ScheduleConfig::min_ratio, NumberValue{.most = 1.0}, "Last learning rate over the peak.")
      .only_when("schedule.kind", "is cosine, linear or wsd",
                 [](const RunConfig& config) { return config.schedule.kind != Kind::kConstant; });
  schedule
      .add("decay_fraction", &ScheduleConfig::decay_fraction, NumberValue{.most = 1.0, .least_excluded = true},
           "Share of the steps that the final decay takes.")
      .only_when("schedule.kind", "is wsd", [](const RunConfig& config) { return config.schedule.kind == Kind::kWsd; });
}

RunKeys make_config_keys() {
  RunKeys keys;
  add_top_level_keys(keys);
  add_model_keys(keys);
  add_attention_keys(keys);
  add_rope_keys(keys);
  add_moe_keys(keys);
  add_parallel_keys(keys);
  add_data_keys(keys);
  add_optimizer_keys(keys);
  add_schedule_keys(keys);
  add_training_keys(keys);
  add_routing_keys(keys);
  add_watching_keys(keys);
  return keys;
}

std::vector<ConfigKey<DataSource>> make_source_keys() {
  std::vector<ConfigKey<DataSource>> keys;
  SectionKeys source(
      keys, "", [](auto& data_source) -> auto& { return data_source; });
  source.add("name", &DataSource::name, TextValue{}, "The domain, as evaluation and metrics call it.").as_required();
  source.add("path", &DataSource::paths, TextListValue{}, "Files, relative to the current directory.").as_required();
  source.add("validation_path", &DataSource::validation_paths, TextListValue{.may_be_empty = true}, "Held-out files.").as_run();
  source.add("validation_fraction", &DataSource::validation_fraction, NumberValue{.most = 1.0, .most_excluded = true},
             "Or: the share at the end of path that is held out.");
  source.add("weight", &DataSource::weight, NumberValue{.least_excluded = true},
             "Share of this source in the training data, relative to the other weights.");
  return keys;
}

}  // namespace

const std::vector<ConfigKey<RunConfig>>& config_keys() {
  static const std::vector<ConfigKey<RunConfig>> keys = make_config_keys();
  return keys;
}

const std::vector<ConfigKey<DataSource>>& source_keys() {
  static const std::vector<ConfigKey<DataSource>> keys = make_source_keys();
  return keys;
}

const std::vector<ConfigSection>& config_sections() {
  static const std::vector<ConfigSection> sections = {
      {"", "Keys beside the sections."},
      {"model", "The shape of the model."},
      {"model.attention", "What attention has beside its sizes, which stand in `model`."},
      {"model.rope", "Rotary positions beside `model.rope_theta`."},
      {"model.moe", "Mixture-of-Experts layers. Without this section the model is dense; `moe: null` says so."},
      {"parallel", "How ranks share the work."},
      {"data", "What the model learns from. `data.sources` is a list; its keys are marked `[]`."},
      {"optimizer", "AdamW."},
      {"schedule", "The learning rate over the steps."},
      {"training", "Length, batch, precision and machine."},
      {"routing", "The routers' choices, written down or taken from another run."},
      {"evaluation", "Loss on held-out data, by source."},
      {"checkpoint", "What is saved, and how often."},
      {"logging", "What is shown, and how often."},
  };
  return sections;
}

std::string section_of(const std::string& key) {
  const size_t dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

std::string leaf_of(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

bool is_config_name(const std::string& name) {
  const auto is_named = [&](const auto& described) { return described.name == name; };
  return name == kSourcesKey || std::ranges::any_of(config_sections(), is_named) || std::ranges::any_of(config_keys(), is_named);
}

std::string source_key_name(size_t index, const std::string& leaf) {
  return std::string(kSourcesKey) + "[" + std::to_string(index) + "]." + leaf;
}

std::vector<ConfigValueText> config_values(const RunConfig& config) {
  std::vector<ConfigValueText> values;
  for (const auto& key : config_keys()) {
    if (key.alias_of.empty() && key.applies(config)) values.push_back({key.name, key.write(config), key.role});
  }
  for (size_t i = 0; i < config.data.sources.size(); ++i) {
    for (const auto& key : source_keys()) {
      values.push_back({source_key_name(i, key.name), key.write(config.data.sources[i]), key.role});
    }
  }
  return values;
}

}  // namespace switchyard
