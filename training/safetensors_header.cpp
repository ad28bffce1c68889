#include "training/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/strict_json.h"

namespace switchyard {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and written as it lies in memory");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr int64_t kLengthFieldBytes = sizeof(uint64_t);
constexpr int kMaxDepth = 3;  // header { tensor { shape [
constexpr const char* kMetadataKey = "__metadata__";

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 10> kDtypes = {{{"BOOL", at::kBool},
                                                                                  {"U8", at::kByte},
                                                                                  {"I8", at::kChar},
                                                                                  {"I16", at::kShort},
                                                                                  {"I32", at::kInt},
                                                                                  {"I64", at::kLong},
                                                                                  {"F16", at::kHalf},
                                                                                  {"BF16", at::kBFloat16},
                                                                                  {"F32", at::kFloat},
                                                                                  {"F64", at::kDouble}}};

/// The header's text, once its length is known to lie inside the file.
std::string_view header_text(std::string_view file) {
  uint64_t header_bytes = 0;
  if (file.size() < sizeof(header_bytes))
    throw UserError("has " + std::to_string(file.size()) + " bytes; the header's length alone takes 8");
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes)
    throw UserError("header length " + std::to_string(header_bytes) + " exceeds the format's 100,000,000 bytes");
  const uint64_t available_bytes = file.size() - sizeof(header_bytes);
  if (header_bytes > available_bytes) {
    throw UserError("header length " + std::to_string(header_bytes) + " exceeds the file, which has " + std::to_string(available_bytes) +
                    " bytes after the length");
  }
  const std::string_view text = file.substr(sizeof(header_bytes), header_bytes);
  if (!text.starts_with('{')) throw UserError("header does not start with '{'");
  return text;
}

std::map<std::string, std::string> parse_metadata(const json& value) {
  if (!value.is_object()) throw UserError("__metadata__ must be an object, found " + std::string(value.type_name()));
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) metadata[key] = string_value(text, "__metadata__ \"" + key + "\"");
  return metadata;
}

/// One tensor's entry; offsets count from `data_begin`, the first byte after the header.
SafetensorsEntry parse_entry(const std::string& name, const json& value, int64_t data_begin, int64_t data_bytes) {
  const std::string what = "tensor \"" + name + "\": ";
  SafetensorsEntry entry{safetensors_dtype(string_value(required_member(value, "dtype"), what + "dtype")),
                         natural_numbers(required_member(value, "shape"), what + "shape")};
  const auto offsets = natural_numbers(required_member(value, "data_offsets"), what + "data_offsets");
  if (offsets.size() != 2) throw UserError(what + "data_offsets has " + std::to_string(offsets.size()) + " numbers; two are needed");
  if (offsets[1] < offsets[0] || offsets[1] > data_bytes) {
    throw UserError(what + "data_offsets [" + std::to_string(offsets[0]) + ", " + std::to_string(offsets[1]) +
                    "] do not lie in the file's " + std::to_string(data_bytes) + " bytes of data");
  }
  entry.begin = data_begin + offsets[0];
  entry.length = offsets[1] - offsets[0];
  const int64_t expected_bytes = checked_size_bytes(checked_numel(entry.shape), entry.dtype);
  if (entry.length != expected_bytes) {
    throw UserError(what + "has " + std::to_string(entry.length) + " bytes of data; its shape and dtype need " +
                    std::to_string(expected_bytes));
  }
  return entry;
}

/// Entries must fill [begin, end) of the file one after the other.
void check_layout(const std::map<std::string, SafetensorsEntry>& entries, int64_t begin, int64_t end) {
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> in_file_order;
  for (const auto& item : entries) in_file_order.push_back(&item);
  std::ranges::sort(in_file_order, {}, [](const auto* item) { return std::pair(item->second.begin, item->second.length); });
  for (const auto* item : in_file_order) {
    const auto& [name, entry] = *item;
    if (entry.begin < begin) throw UserError("tensor \"" + name + "\" overlaps the tensor before it");
    if (entry.begin > begin)
      throw UserError("there is a hole of " + std::to_string(entry.begin - begin) + " bytes before tensor \"" + name + "\"");
    begin += entry.length;
  }
  if (begin != end) throw UserError("the file has " + std::to_string(end - begin) + " bytes after the last tensor");
}

std::string with_length_field(std::string text) {
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxHeaderBytes)
    throw UserError("header of " + std::to_string(text.size()) + " bytes exceeds the format's 100,000,000");
  const uint64_t header_bytes = text.size();
  std::string field(sizeof(header_bytes), '\0');
  std::memcpy(field.data(), &header_bytes, sizeof(header_bytes));
  return field + text;
}

}  // namespace

std::string safetensors_dtype_name(at::ScalarType dtype) {
  const auto found = std::ranges::find(kDtypes, dtype, &std::pair<std::string_view, at::ScalarType>::second);
  if (found == kDtypes.end()) throw UserError(std::string("dtype ") + c10::toString(dtype) + " cannot be stored in safetensors");
  return std::string(found->first);
}

at::ScalarType safetensors_dtype(const std::string& name) {
  const auto found = std::ranges::find(kDtypes, name, &std::pair<std::string_view, at::ScalarType>::first);
  if (found != kDtypes.end()) return found->second;
  throw UserError("dtype \"" + name + "\" is not supported; use BOOL, U8, I8, I16, I32, I64, F16, BF16, F32 or F64");
}

int64_t checked_numel(const std::vector<int64_t>& shape) {
  int64_t numel = 1;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(numel, size, &numel)) throw UserError("the number of elements of the shape exceeds 63 bits");
  }
  return numel;
}

int64_t checked_size_bytes(int64_t numel, at::ScalarType dtype) {
  int64_t size_bytes = 0;
  if (__builtin_mul_overflow(numel, static_cast<int64_t>(c10::elementSize(dtype)), &size_bytes)) {
    throw UserError("the size of " + std::to_string(numel) + " elements exceeds 63 bits");
  }
  return size_bytes;
}

SafetensorsHeader parse_safetensors_header(std::string_view file) {
  const std::string_view text = header_text(file);
  const int64_t data_begin = kLengthFieldBytes + static_cast<int64_t>(text.size());
  const int64_t file_bytes = static_cast<int64_t>(file.size());
  const json header_json = parse_strict_json(text, kMaxDepth);
  SafetensorsHeader header;
  for (const auto& [name, value] : header_json.items()) {
    if (name == kMetadataKey) {
      header.metadata = parse_metadata(value);
    } else {
      header.entries[name] = parse_entry(name, value, data_begin, file_bytes - data_begin);
    }
  }
  check_layout(header.entries, data_begin, file_bytes);
  return header;
}

std::pair<std::string, SafetensorsHeader> make_safetensors_header(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                                                                  const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header{{}, metadata};
  header.metadata.insert({"format", "pt"});
  json header_json = {{kMetadataKey, header.metadata}};
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto shape = tensor.sizes().vec();
    const int64_t length = checked_size_bytes(tensor.numel(), tensor.scalar_type());
    const bool is_new = name != kMetadataKey && header.entries.insert({name, {tensor.scalar_type(), shape, offset, length}}).second;
    if (!is_new) throw UserError("tensor name \"" + name + "\" is reserved or given twice");
    header_json[name] = {
        {"dtype", safetensors_dtype_name(tensor.scalar_type())}, {"shape", shape}, {"data_offsets", {offset, offset + length}}};
    offset += length;
  }
  std::string text = with_length_field(header_json.dump());
  for (auto& [name, entry] : header.entries) entry.begin += static_cast<int64_t>(text.size());
  return {std::move(text), std::move(header)};
}

}  // namespace switchyard
