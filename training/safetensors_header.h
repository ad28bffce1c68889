// The JSON header of a safetensors file, as text and as checked entries. Pure functions: no file is touched.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "training/safetensors.h"

namespace switchyard {

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// "BF16" for at::kBFloat16. Errors: UserError for a dtype that the format has and we do not, or the other way round.
std::string safetensors_dtype_name(at::ScalarType dtype);
at::ScalarType safetensors_dtype(const std::string& name);

/// Elements of a tensor, and its bytes. Errors: UserError when they exceed 63 bits.
int64_t checked_numel(const std::vector<int64_t>& shape);
int64_t checked_size_bytes(int64_t numel, at::ScalarType dtype);

/// The entries of a whole file's bytes. Errors: UserError with the broken rule, without the file's name.
SafetensorsHeader parse_safetensors_header(std::string_view file);

/// Header of tensors that lie one after the other, with the eight bytes of its length, padded with spaces to a multiple of 8; and the
/// entries that a reader will find. Errors: UserError (a name twice, a header over 100 MB).
std::pair<std::string, SafetensorsHeader> make_safetensors_header(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                                                                  const std::map<std::string, std::string>& metadata);

}  // namespace switchyard
