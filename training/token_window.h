// Windows of a token stream as rows of a batch. B rows, S sequence length.
#pragma once

#include "training/source_split.h"
#include "training/token_data.h"

namespace switchyard {

/// Zeros, every target masked. Rows have documents and positions where `config` resets these.
Batch make_batch(int64_t num_rows, int64_t sequence_length, const DataConfig& config);

/// Row `row` becomes the window of `tokens` (2 to S + 1 of them): inputs all but the last, targets all but the first, these unmasked.
/// What lies behind a short window stays zero and masked. Documents are those of the stream.
void fill_row(Batch& batch, int64_t row, const TokenStream& stream, TokenRange tokens);

}  // namespace switchyard
