// Where a run's numbers go: metrics.jsonl (the truth) and TensorBoard events beside it. One rank writes.
#pragma once

#include <memory>
#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "training/metrics_log.h"
#include "training/run_folder.h"
#include "training/tensorboard.h"

namespace switchyard {

class MetricSinks {
 public:
  /// Cuts metrics.jsonl back to `resumed_step` and goes on behind it.
  MetricSinks(const RunFolder& folder, int64_t resumed_step, bool with_tensorboard);

  /// A step's or an evaluation's record; its plain numbers also become TensorBoard scalars ("train/loss", "evaluation/NAME/bits_per_byte").
  void write(const nlohmann::json& record);

 private:
  MetricsLog log_;
  std::optional<TensorBoardWriter> tensorboard_;
};

}  // namespace switchyard
