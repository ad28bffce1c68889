// The byte-level tokenizer: token = byte, plus one end-of-document token. No files, no training, any text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

inline constexpr int64_t kByteVocabSize = 257;
inline constexpr int64_t kEndOfDocument = 256;

std::vector<int64_t> encode_bytes(const std::string& text);
/// End-of-document tokens become a newline. Errors: UserError for an id >= 257.
std::string decode_bytes(const std::vector<int64_t>& tokens);

}  // namespace switchyard
