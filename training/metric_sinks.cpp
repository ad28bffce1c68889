#include "training/metric_sinks.h"

#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

void add_scalars(TensorBoardWriter& writer, const std::string& prefix, const nlohmann::json& record, int64_t step) {
  for (const auto& [key, value] : record.items()) {
    if (key == "step") continue;
    if (value.is_number()) writer.add_scalar(prefix + "/" + key, step, value.get<double>());
    if (value.is_object()) add_scalars(writer, prefix + "/" + key, value, step);
  }
}

std::filesystem::path cut_back_first(std::filesystem::path file, int64_t resumed_step) {
  cut_back(file, resumed_step);
  return file;
}

}  // namespace

MetricSinks::MetricSinks(const RunFolder& folder, int64_t resumed_step, bool with_tensorboard)
    : log_(cut_back_first(folder.metrics_file(), resumed_step)) {
  if (with_tensorboard) tensorboard_.emplace(folder.tensorboard_folder(), resumed_step + 1);
}

void MetricSinks::write(const nlohmann::json& record) {
  log_.write(record);
  if (!tensorboard_) return;
  const auto step = record.at("step").get<int64_t>();
  if (record.contains("evaluation")) {
    add_scalars(*tensorboard_, "evaluation", record.at("evaluation"), step);
  } else {
    add_scalars(*tensorboard_, "train", record, step);
  }
  tensorboard_->flush();
}

}  // namespace switchyard
