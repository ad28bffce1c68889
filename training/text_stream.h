// A raw text file as tokens: its bytes, then one end-of-document token.
#pragma once

#include <filesystem>
#include <memory>

#include "training/token_data.h"

namespace switchyard {

/// Errors: UserError for a file that cannot be mapped, or a vocabulary too small for the byte tokenizer.
std::unique_ptr<TokenStream> open_text_file(const std::filesystem::path& path, int64_t vocab_size);

}  // namespace switchyard
