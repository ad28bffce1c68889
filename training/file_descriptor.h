// An open file of the operating system, closed with its owner.
#pragma once

#include <utility>

#include <unistd.h>

namespace switchyard {

class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this == &other) return *this;
    close();
    descriptor_ = other.release();
    return *this;
  }

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }
  /// False when the system reports an error that it had kept back until now.
  bool close() { return !is_open() || ::close(release()) == 0; }

 private:
  int descriptor_ = -1;
};

}  // namespace switchyard
