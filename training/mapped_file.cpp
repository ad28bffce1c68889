#include "training/mapped_file.h"

#include <cerrno>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/error.h"
#include "training/file_descriptor.h"

namespace switchyard {
namespace {

[[noreturn]] void throw_unreadable(const std::filesystem::path& path, const std::string& reason) {
  throw UserError(path.string() + ": cannot be read: " + reason);
}

std::string last_system_error() {
  return std::generic_category().message(errno);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor.is_open()) throw_unreadable(path, last_system_error());
  struct stat status = {};
  if (::fstat(descriptor.get(), &status) != 0) throw_unreadable(path, last_system_error());
  if (!S_ISREG(status.st_mode)) throw_unreadable(path, "it is not a regular file");
  size_bytes_ = status.st_size;
  if (size_bytes_ == 0) return;  // mmap refuses a length of zero
  void* mapping = ::mmap(nullptr, static_cast<size_t>(size_bytes_), PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (mapping == MAP_FAILED) throw_unreadable(path, last_system_error());
  data_ = static_cast<const char*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), static_cast<size_t>(size_bytes_));
}

}  // namespace switchyard
