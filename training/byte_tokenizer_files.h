// The byte tokenizer as files that Hugging Face tokenizers load: a byte-level BPE without merges, so that token id = byte.
#pragma once

#include <filesystem>

namespace switchyard {

/// Writes tokenizer.json and tokenizer_config.json.
void write_byte_tokenizer_files(const std::filesystem::path& folder, int64_t max_sequence_length);

}  // namespace switchyard
