#include "training/checkpoint_manifest.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/hash.h"
#include "training/safetensors_header.h"
#include "training/strict_json.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr int64_t kFormatVersion = 1;
constexpr int kMaxDepth = 64;
constexpr size_t kChecksumDigits = 16;

/// The end of every manifest. The checksum is of the bytes before it, so that no byte of the file is left out.
std::string seal(std::string_view content) {
  return ",\n\"xxh3\":\"" + hex64(xxh3(content)) + "\"}\n";
}

bool is_checksum(const std::string& text) {
  return text.size() == kChecksumDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

std::string range_text(int64_t begin, int64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

json to_json(const StoredPiece& piece) {
  return {{"tensor", piece.tensor},
          {"dtype", safetensors_dtype_name(piece.dtype)},
          {"global_shape", piece.global_shape},
          {"begin", piece.begin},
          {"numel", piece.numel},
          {"file", piece.file},
          {"offset", piece.offset},
          {"length", piece.length},
          {"xxh3", piece.xxh3}};
}

void check_piece(const StoredPiece& piece) {
  const std::string what = "piece of \"" + piece.tensor + "\": ";
  const int64_t total = checked_numel(piece.global_shape);
  if (piece.begin > total || piece.numel > total - piece.begin) {
    throw UserError(what + std::to_string(piece.numel) + " elements from " + std::to_string(piece.begin) + " on exceed the tensor's " +
                    std::to_string(total));
  }
  if (piece.numel == 0 && total > 0) throw UserError(what + "has no elements");
  if (piece.length != checked_size_bytes(piece.numel, piece.dtype)) throw UserError(what + "length does not fit numel and dtype");
  int64_t end = 0;
  if (__builtin_add_overflow(piece.offset, piece.length, &end)) throw UserError(what + "offset and length exceed 63 bits");
  if (!is_plain_file_name(piece.file)) throw UserError(what + "file \"" + piece.file + "\" is not a plain file name");
  if (!is_checksum(piece.xxh3)) throw UserError(what + "xxh3 \"" + piece.xxh3 + "\" is not a checksum of 16 hexadecimal digits");
}

StoredPiece parse_piece(const json& value) {
  StoredPiece piece;
  piece.tensor = string_value(required_member(value, "tensor"), "tensor");
  const std::string what = "piece of \"" + piece.tensor + "\": ";
  if (!value.contains("xxh3")) throw UserError(what + "has no checksum; its data cannot be trusted");
  piece.dtype = safetensors_dtype(string_value(required_member(value, "dtype"), what + "dtype"));
  piece.global_shape = natural_numbers(required_member(value, "global_shape"), what + "global_shape");
  piece.begin = natural_number(required_member(value, "begin"), what + "begin");
  piece.numel = natural_number(required_member(value, "numel"), what + "numel");
  piece.file = string_value(required_member(value, "file"), what + "file");
  piece.offset = natural_number(required_member(value, "offset"), what + "offset");
  piece.length = natural_number(required_member(value, "length"), what + "length");
  piece.xxh3 = string_value(value["xxh3"], what + "xxh3");
  check_piece(piece);
  return piece;
}

void check_finite_numbers(const json& state) {
  const json flat = state.flatten();
  for (const auto& [path, value] : flat.items()) {
    if (value.is_number_float() && !std::isfinite(value.get<double>())) throw UserError("state" + path + " is not a finite number");
  }
}

/// The ranges of one tensor, sorted, must follow each other from 0 to its end.
void check_coverage(const std::string& name, const StoredTensor& tensor) {
  int64_t covered = 0;
  for (const StoredPiece* piece : tensor.pieces) {
    if (piece->dtype != tensor.dtype || piece->global_shape != tensor.global_shape) {
      throw UserError("pieces of tensor \"" + name + "\" differ in dtype or global shape");
    }
    if (piece->begin > covered)
      throw UserError("elements " + range_text(covered, piece->begin) + " of tensor \"" + name + "\" are in no piece");
    if (piece->begin < covered) {
      throw UserError("elements " + range_text(piece->begin, std::min(covered, piece->end())) + " of tensor \"" + name +
                      "\" are in two pieces");
    }
    covered = piece->end();
  }
  const int64_t total = checked_numel(tensor.global_shape);
  if (covered < total) throw UserError("elements " + range_text(covered, total) + " of tensor \"" + name + "\" are in no piece");
  if (total == 0 && tensor.pieces.size() > 1) throw UserError("the empty tensor \"" + name + "\" is in two pieces");
}

}  // namespace

std::string StoredPiece::name_in_file() const {
  return tensor + "[" + std::to_string(begin) + ":" + std::to_string(end()) + "]";
}

std::string to_json_text(const std::vector<StoredPiece>& pieces) {
  std::string text = "[";
  for (const StoredPiece& piece : pieces) text += (text.size() > 1 ? ",\n" : "\n") + to_json(piece).dump();
  return text + "]";
}

std::vector<StoredPiece> parse_pieces(const json& pieces) {
  if (!pieces.is_array()) throw UserError("pieces must be an array, found " + std::string(pieces.type_name()));
  std::vector<StoredPiece> parsed;
  parsed.reserve(pieces.size());
  for (const json& piece : pieces) parsed.push_back(parse_piece(piece));
  return parsed;
}

std::string to_text(const CheckpointManifest& manifest) {
  check_finite_numbers(manifest.state);
  const std::string content = "{\"format_version\":" + std::to_string(kFormatVersion) + ",\n\"step\":" + std::to_string(manifest.step) +
                              ",\n\"state\":" + manifest.state.dump() + ",\n\"pieces\":" + to_json_text(manifest.pieces);
  return content + seal(content);
}

CheckpointManifest parse_manifest(std::string_view text) {
  const size_t seal_size = seal("").size();
  const std::string_view content = text.substr(0, text.size() - std::min(text.size(), seal_size));
  if (text.size() < seal_size || !text.substr(content.size()).starts_with(",\n\"xxh3\":\"")) {
    throw UserError("does not end with a checksum; it is incomplete");
  }
  if (text.substr(content.size()) != seal(content)) throw UserError("does not match its own checksum; it is damaged");
  const json value = parse_strict_json(text, kMaxDepth);
  const int64_t version = natural_number(required_member(value, "format_version"), "format_version");
  if (version != kFormatVersion) {
    throw UserError("format_version is " + std::to_string(version) + "; this program reads " + std::to_string(kFormatVersion));
  }
  return {natural_number(required_member(value, "step"), "step"), required_member(value, "state"),
          parse_pieces(required_member(value, "pieces"))};
}

std::map<std::string, StoredTensor> index_tensors(const std::vector<StoredPiece>& pieces) {
  std::map<std::string, StoredTensor> tensors;
  for (const StoredPiece& piece : pieces) {
    const auto [item, is_new] = tensors.try_emplace(piece.tensor, StoredTensor{piece.dtype, piece.global_shape, {}});
    item->second.pieces.push_back(&piece);
  }
  for (auto& [name, tensor] : tensors) {
    std::ranges::sort(tensor.pieces, {}, &StoredPiece::begin);
    check_coverage(name, tensor);
  }
  return tensors;
}

}  // namespace switchyard
