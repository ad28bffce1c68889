// What stands beside a .bin file of token ids: Megatron's index (.idx) and the sidecar (.meta.json) of scripts/prepare_data.py.
//
// .idx, little-endian, packed without alignment (Megatron-LM, megatron/core/datasets/indexed_dataset.py):
//   0  "MMIDIDX\0\0"    9  u64 version = 1    17  u8 dtype code    18  u64 N sequences    26  u64 D document indices
//   34 i32 lengths[N] (tokens)   i64 pointers[N] (bytes into .bin)   i64 document_indices[D]   optional i8 modes[N]
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "training/mapped_file.h"

namespace switchyard {

/// How ids lie in a file: their size and how to widen them to int64.
struct StoredType {
  const char* name;
  int64_t size_bytes;
  void (*widen)(const char* stored, int64_t count, int64_t* out);
};

/// By Megatron's dtype code; nullptr for codes that are unknown or no integers.
const StoredType* stored_type_of_code(int code);
/// By the name of `data.token_dtype`: uint16 | uint32. Errors: UserError for another name.
const StoredType& stored_type_of_name(const std::string& name);

/// Checks that `index` is whole and describes exactly the bytes of a .bin file of `bin_bytes`: sequences back to back, from 0 to its end.
/// Returns the type of the ids. Errors: UserError naming the file and the broken rule.
const StoredType& check_token_index(const MappedFile& index, int64_t bin_bytes);

/// The sidecar's figures.
struct TokenSidecar {
  int64_t num_tokens = 0;
  std::optional<int64_t> num_text_bytes;  ///< key `num_bytes`
  std::optional<int64_t> vocab_size;
  std::optional<int64_t> end_of_document;  ///< the token behind each document
};

/// Nothing where there is no such file. Errors: UserError for one that is malformed.
std::optional<TokenSidecar> read_token_sidecar(const std::filesystem::path& path);

}  // namespace switchyard
