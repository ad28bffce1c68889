#include "training/durable_file.h"

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include <fcntl.h>

#include "core/error.h"

namespace switchyard {
namespace {

[[noreturn]] void throw_io_error(const std::filesystem::path& path, const std::string& action, int error_number) {
  throw RunError(path.string() + ": cannot " + action + ": " + std::generic_category().message(error_number));
}

std::filesystem::path parent_folder(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

void sync_folder(const std::filesystem::path& folder) {
  FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open() || ::fsync(descriptor.get()) != 0) throw_io_error(folder, "sync the folder", errno);
}

}  // namespace

DurableFile::DurableFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_path_(path_.string() + ".tmp"),
      descriptor_(::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  if (!descriptor_.is_open()) throw_io_error(temporary_path_, "create", errno);
}

DurableFile::~DurableFile() {
  if (descriptor_.is_open()) ::unlink(temporary_path_.c_str());
}

void DurableFile::write(const void* data, size_t size_bytes) {
  const char* next = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t written = ::write(descriptor_.get(), next, size_bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_io_error(temporary_path_, "write " + std::to_string(size_bytes) + " bytes", errno);
    next += written;
    size_bytes -= static_cast<size_t>(written);
  }
}

void DurableFile::commit() {
  if (::fsync(descriptor_.get()) != 0) throw_io_error(temporary_path_, "sync", errno);
  if (!descriptor_.close()) {
    const int close_error = errno;
    ::unlink(temporary_path_.c_str());
    throw_io_error(temporary_path_, "close", close_error);
  }
  rename_durably(temporary_path_, path_);
}

void write_file_durably(const std::filesystem::path& path, std::string_view content) {
  DurableFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

void create_folder_durably(const std::filesystem::path& folder) {
  if (folder.empty() || std::filesystem::is_directory(folder)) return;
  create_folder_durably(folder.parent_path());
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  if (error) throw_io_error(folder, "create the folder", error.value());
  sync_folder(parent_folder(folder));
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw_io_error(from, "rename to " + to.string(), errno);
  sync_folder(parent_folder(to));
}

void remove_folder_durably(const std::filesystem::path& folder) {
  const std::filesystem::path removed = folder.string() + ".tmp-removed";
  rename_durably(folder, removed);
  std::error_code error;
  std::filesystem::remove_all(removed, error);
  if (error) throw_io_error(removed, "remove", error.value());
}

}  // namespace switchyard
