#include "training/source_split.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace switchyard {
namespace {

int64_t num_held_out_windows(const DataSource& source, int64_t num_windows) {
  if (source.validation_fraction == 0) return 0;
  return std::max<int64_t>(1, std::llround(static_cast<double>(num_windows) * source.validation_fraction));
}

}  // namespace

SourceSplit split_source(const DataSource& source, int64_t num_tokens, int64_t sequence_length) {
  if (source.validation_fraction > 0 && !source.validation_paths.empty()) {
    throw UserError("data.sources (" + source.name + "): validation_path and validation_fraction are both set; leave one of them out");
  }
  const int64_t num_windows = (num_tokens - 1) / sequence_length;
  const int64_t num_training_windows = num_windows - num_held_out_windows(source, num_windows);
  if (num_training_windows < 1) {
    throw UserError("data.sources (" + source.name + "): " + std::to_string(num_tokens) + " tokens leave no training window of " +
                    std::to_string(sequence_length + 1) +
                    " tokens (sequence_length + 1); give more text or a smaller data.sequence_length");
  }
  const int64_t training_end = num_training_windows * sequence_length + 1;
  const int64_t held_out_end = source.validation_fraction > 0 ? num_tokens : training_end;
  return {{0, training_end}, {training_end, held_out_end}};
}

}  // namespace switchyard
