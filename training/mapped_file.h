// A whole file mapped read-only into memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace switchyard {

class MappedFile {
 public:
  /// Errors: UserError for a path that is missing, unreadable, empty, or not a regular file.
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Aligned to a page; valid while this object lives.
  const char* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }
  std::string_view view() const { return {data_, static_cast<size_t>(size_bytes_)}; }
  /// Hash of the name (without folders, so that data may be moved), the size, and the bytes: all of them in a file of up to 256 KiB, else
  /// 64 blocks spread evenly from the first to the last byte.
  uint64_t fingerprint() const;

 private:
  std::filesystem::path path_;
  const char* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

}  // namespace switchyard
