// The safetensors file format: u64 header length, JSON header, raw little-endian data. Written with fsync, read with every rule checked.
// Format: https://huggingface.co/docs/safetensors (rules of safetensors/src/tensor.rs, stricter on duplicate
// keys and on blanks before the header).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "training/mapped_file.h"

namespace switchyard {

struct SafetensorsEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0;  ///< bytes from the start of the file
  int64_t length = 0;
};

/// Writes CPU tensors (any strides) in the order given, with `__metadata__ = {"format": "pt"}` and `metadata`; fsyncs the file. Returns the
/// entries. Errors: RunError that names the file and the system's reason (a full disk).
std::map<std::string, SafetensorsEntry> write_safetensors(const std::filesystem::path& path,
                                                          const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                                                          const std::map<std::string, std::string>& metadata = {});

/// A file mapped into memory. Errors of opening: UserError that names the file and the broken rule.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// A copy of one tensor. Errors: UserError when the file has no such tensor.
  at::Tensor read(const std::string& name) const;
  /// The mapped bytes of one entry, without a copy; valid while the file is open.
  const char* bytes(const SafetensorsEntry& entry) const;

 private:
  MappedFile file_;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace switchyard
