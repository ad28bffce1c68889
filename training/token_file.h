// A file of stored token ids: Megatron's .bin with its .idx, or headerless ids (nanoGPT's .bin, OLMo's raw arrays).
#pragma once

#include <memory>
#include <string>

#include "training/token_data.h"

namespace switchyard {

/// `path`: a .bin file, a headerless file of another name, or Megatron's prefix without ".bin". `token_dtype`: of headerless ids.
/// Errors: UserError for a file that is missing, empty, of an odd size, or that its .idx or .meta.json does not describe.
std::unique_ptr<TokenStream> open_token_file(const std::string& path, const std::string& token_dtype, int64_t vocab_size);

}  // namespace switchyard
