// A whole file mapped into memory for reading: pages are read when they are touched, nothing is copied.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace switchyard {

/// Errors: UserError when the path is no readable regular file. The file must not shrink while it is mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }
  std::string_view view() const { return {data_, static_cast<size_t>(size_bytes_)}; }

 private:
  const char* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

}  // namespace switchyard
