// Files and names that survive a crash: what has returned from here is on disk, and a file under its final name is complete.
// Every error is a RunError that says the path, what failed and the system's reason.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

#include "training/file_descriptor.h"

namespace switchyard {

/// A file written as "<path>.tmp" beside its final name, which it gets in commit(). Without commit() nothing of it stays, and a file that
/// had the name before is untouched (also for those who have it mapped).
class DurableFile {
 public:
  explicit DurableFile(std::filesystem::path path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, size_t size_bytes);
  /// fsync, rename, fsync of the folder.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_path_;
  FileDescriptor descriptor_;
};

void write_file_durably(const std::filesystem::path& path, std::string_view content);
/// Creates the folder and those above it that are missing.
void create_folder_durably(const std::filesystem::path& folder);
/// rename(2) and fsync of the folder that holds `to`; both names lie in the same folder.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
/// A folder disappears at once, also when the process dies while its files are being removed: it is renamed to "<folder>.tmp-removed"
/// first.
void remove_folder_durably(const std::filesystem::path& folder);

}  // namespace switchyard
