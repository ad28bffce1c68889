// The manifest of a checkpoint: which file holds which elements of which tensor, and the checksum of every piece. Pure functions on text.
//
//   {"format_version": 1, "step": 100, "state": {...},
//    "pieces": [{"tensor", "dtype", "global_shape", "begin", "numel", "file", "offset", "length", "xxh3"}, ...],
//    "xxh3": "<of all the text before this key>"}
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

namespace switchyard {

/// Elements [begin, begin + numel) of the flattened global tensor lie in bytes [offset, offset + length) of `file`.
struct StoredPiece {
  std::string tensor;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> global_shape;
  int64_t begin = 0;
  int64_t numel = 0;
  std::string file;  ///< a name in the checkpoint's folder
  int64_t offset = 0;
  int64_t length = 0;
  std::string xxh3;  ///< hex64 of the bytes

  int64_t end() const { return begin + numel; }
  /// The piece's tensor name in its safetensors file: "embedding[0:4096]".
  std::string name_in_file() const;
};

struct CheckpointManifest {
  int64_t step = 0;
  nlohmann::json state;
  std::vector<StoredPiece> pieces;
};

/// What the pieces say about one tensor.
struct StoredTensor {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> global_shape;
  std::vector<const StoredPiece*> pieces;  ///< in the order of their ranges
};

/// All errors below are UserErrors without the manifest's file name.
std::string to_json_text(const std::vector<StoredPiece>& pieces);
std::vector<StoredPiece> parse_pieces(const nlohmann::json& pieces);

/// Errors: numbers in `state` that are not finite, which JSON cannot hold.
std::string to_text(const CheckpointManifest& manifest);
/// Errors: no checksum or a wrong one, another format_version, a field missing or malformed.
CheckpointManifest parse_manifest(std::string_view text);

/// The tensors by name; they point into `pieces`. Errors: pieces of one tensor that disagree about it, leave a hole or overlap.
std::map<std::string, StoredTensor> index_tensors(const std::vector<StoredPiece>& pieces);

}  // namespace switchyard
