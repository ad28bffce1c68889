#include <algorithm>
#include <cstring>
#include <set>
#include <system_error>

#include "core/error.h"
#include "core/hash.h"
#include "training/checkpoint.h"
#include "training/checkpoint_folders.h"
#include "training/checkpoint_manifest.h"
#include "training/safetensors.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

CheckpointManifest read_manifest(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) throw UserError(folder.string() + ": no such checkpoint folder");
  const fs::path path = folder / kManifestFile;
  const MappedFile file(path);
  try {
    return parse_manifest(file.view());
  } catch (const UserError& fault) {
    throw UserError(path.string() + ": " + fault.what());
  }
}

/// Pieces of a safetensors file fill it to its end, so the manifest knows how long it must be.
void check_file_sizes(const fs::path& folder, const std::vector<StoredPiece>& pieces) {
  std::map<std::string, int64_t> expected_bytes;
  for (const StoredPiece& piece : pieces) {
    int64_t& expected = expected_bytes[piece.file];
    expected = std::max(expected, piece.offset + piece.length);
  }
  for (const auto& [name, expected] : expected_bytes) {
    std::error_code error;
    const auto size_bytes = fs::file_size(folder / name, error);
    if (error) throw UserError((folder / name).string() + ": cannot be read: " + error.message());
    if (size_bytes != static_cast<uint64_t>(expected)) {
      throw UserError((folder / name).string() + ": has " + std::to_string(size_bytes) + " bytes; the manifest says " +
                      std::to_string(expected));
    }
  }
}

}  // namespace

struct CheckpointReader::Impl {
  fs::path folder;
  CheckpointManifest manifest;
  std::map<std::string, StoredTensor> stored;
  std::map<std::string, std::vector<int64_t>> global_shapes;
  std::map<std::string, SafetensorsFile> open_files;
  std::set<const StoredPiece*> verified;  ///< a piece that many reads share is hashed once

  explicit Impl(const fs::path& path) : folder(path), manifest(read_manifest(path)) {
    try {
      stored = index_tensors(manifest.pieces);
    } catch (const UserError& fault) {
      throw UserError((folder / kManifestFile).string() + ": " + fault.what());
    }
    check_file_sizes(folder, manifest.pieces);
    for (const auto& [name, tensor] : stored) global_shapes[name] = tensor.global_shape;
  }

  /// The piece's bytes, once its file and its checksum have been found to agree with the manifest.
  const char* verified_bytes(const StoredPiece& piece) {
    const fs::path path = folder / piece.file;
    const SafetensorsFile& file = open_files.try_emplace(piece.file, path).first->second;
    const auto found = file.entries().find(piece.name_in_file());
    if (found == file.entries().end() || found->second.dtype != piece.dtype || found->second.begin != piece.offset ||
        found->second.length != piece.length) {
      throw UserError(path.string() + ": its header does not have " + piece.name_in_file() + " as the manifest says");
    }
    const char* bytes = file.bytes(found->second);
    if (verified.contains(&piece)) return bytes;
    if (hex64(xxh3(bytes, static_cast<size_t>(piece.length))) != piece.xxh3) {
      throw UserError(path.string() + ": bytes " + std::to_string(piece.offset) + " to " + std::to_string(piece.offset + piece.length) +
                      ", " + piece.name_in_file() + ", do not match their checksum; the file is damaged, use another checkpoint");
    }
    verified.insert(&piece);
    return bytes;
  }

  const StoredTensor& find(const std::string& tensor, const std::vector<int64_t>& global_shape, at::ScalarType dtype) const {
    const std::string where = folder.string() + ": tensor \"" + tensor + "\" ";
    const auto found = stored.find(tensor);
    if (found == stored.end()) throw UserError(where + "is not in the checkpoint");
    const StoredTensor& candidate = found->second;
    if (candidate.global_shape != global_shape) {
      throw UserError(
          c10::str(where, "has shape ", at::IntArrayRef(candidate.global_shape), "; ", at::IntArrayRef(global_shape), " is needed"));
    }
    if (candidate.dtype != dtype) throw UserError(c10::str(where, "is stored as ", candidate.dtype, "; ", dtype, " is needed"));
    return candidate;
  }
};

CheckpointReader::CheckpointReader(const fs::path& folder) : impl_(std::make_unique<Impl>(folder)) {}
CheckpointReader::~CheckpointReader() = default;

int64_t CheckpointReader::step() const {
  return impl_->manifest.step;
}

const nlohmann::json& CheckpointReader::state() const {
  return impl_->manifest.state;
}

const std::map<std::string, std::vector<int64_t>>& CheckpointReader::tensors() const {
  return impl_->global_shapes;
}

void CheckpointReader::read(const std::string& tensor, const std::vector<int64_t>& global_shape, int64_t begin,
                            at::Tensor destination) const {
  TORCH_CHECK(destination.is_contiguous() && destination.device().is_cpu(), "CheckpointReader::read: needs a contiguous CPU tensor");
  const StoredTensor& stored = impl_->find(tensor, global_shape, destination.scalar_type());
  const int64_t end = begin + destination.numel();
  const int64_t total = c10::multiply_integers(global_shape);
  TORCH_CHECK(begin >= 0 && end <= total, "CheckpointReader::read: elements [", begin, ", ", end, ") of ", tensor, ", which has ", total);
  const int64_t element_bytes = destination.element_size();
  char* next = static_cast<char*>(destination.mutable_data_ptr());
  auto piece = std::ranges::upper_bound(stored.pieces, begin, {}, &StoredPiece::end);
  for (; begin < end; ++piece) {
    const int64_t stop = std::min(end, (*piece)->end());
    const char* bytes = impl_->verified_bytes(**piece) + (begin - (*piece)->begin) * element_bytes;
    std::memcpy(next, bytes, static_cast<size_t>((stop - begin) * element_bytes));
    next += (stop - begin) * element_bytes;
    begin = stop;
  }
}

void CheckpointReader::verify() const {
  for (const StoredPiece& piece : impl_->manifest.pieces) impl_->verified_bytes(piece);
}

}  // namespace switchyard
