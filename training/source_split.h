// Which tokens of a source are for training and which are held out.
#pragma once

#include <cstdint>

#include "training/run_config.h"

namespace switchyard {

/// Tokens [begin, end) of a stream.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

struct SourceSplit {
  TokenRange training;  ///< whole windows: a multiple of S, plus the last window's last target
  TokenRange held_out;  ///< what comes behind, where validation_fraction > 0; no token in common with `training`
};

/// Splits the stream of `source.path`, which has `num_tokens` tokens. Held out are round(windows * validation_fraction) windows, at least
/// one, and the tokens behind the last whole window. Errors: UserError for a source with fewer than S + 1 training tokens, or with both
/// validation_path and validation_fraction.
SourceSplit split_source(const DataSource& source, int64_t num_tokens, int64_t sequence_length);

}  // namespace switchyard
