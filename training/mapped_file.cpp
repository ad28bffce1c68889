#include "training/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/hash.h"

namespace switchyard {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& problem) {
  throw UserError(path.string() + ": " + problem);
}

int64_t checked_size(const std::filesystem::path& path, int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) refuse(path, std::string("cannot be looked at: ") + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) refuse(path, "is a folder; list the files in it");
  if (!S_ISREG(status.st_mode)) refuse(path, "is not a regular file; data files are mapped into memory");
  if (status.st_size == 0) refuse(path, "is empty; leave it out or write it again");
  return status.st_size;
}

}  // namespace

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a named pipe would wait for its writer instead of being refused.
  const int descriptor = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) refuse(path_, std::string("cannot be opened: ") + std::strerror(errno));
  try {
    size_bytes_ = checked_size(path_, descriptor);
  } catch (...) {
    close(descriptor);
    throw;
  }
  void* mapping = mmap(nullptr, static_cast<size_t>(size_bytes_), PROT_READ, MAP_SHARED, descriptor, 0);
  const int mapping_error = errno;
  close(descriptor);
  if (mapping == MAP_FAILED) refuse(path_, std::string("cannot be mapped into memory: ") + std::strerror(mapping_error));
  data_ = static_cast<const char*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), static_cast<size_t>(size_bytes_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

uint64_t MappedFile::fingerprint() const {
  constexpr int64_t kBlockBytes = 4096;
  constexpr int64_t kNumBlocks = 64;
  const uint64_t head = xxh3(path_.filename().string(), static_cast<uint64_t>(size_bytes_));
  if (size_bytes_ <= kNumBlocks * kBlockBytes) return xxh3(data_, static_cast<size_t>(size_bytes_), head);
  // Whole part and rest apart: the product of the offset and the block number could overflow in very large files.
  const int64_t last_begin = size_bytes_ - kBlockBytes;
  const int64_t stride = last_begin / (kNumBlocks - 1);
  const int64_t rest = last_begin % (kNumBlocks - 1);
  uint64_t hash = head;
  for (int64_t block = 0; block < kNumBlocks; ++block) {
    hash = xxh3(data_ + block * stride + block * rest / (kNumBlocks - 1), kBlockBytes, hash);
  }
  return hash;
}

}  // namespace switchyard
