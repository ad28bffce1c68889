#include "training/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "training/crc32c.h"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "TFRecord and protobuf are little-endian");

// Field numbers of event.proto and summary.proto.
constexpr uint64_t kEventWallTime = 1;
constexpr uint64_t kEventStep = 2;
constexpr uint64_t kEventFileVersion = 3;
constexpr uint64_t kEventSummary = 5;
constexpr uint64_t kEventSessionLog = 7;
constexpr uint64_t kSummaryValue = 1;
constexpr uint64_t kValueTag = 1;
constexpr uint64_t kValueSimpleValue = 2;
constexpr uint64_t kSessionLogStatus = 1;
constexpr uint64_t kSessionStart = 1;

// Wire types of protobuf.
constexpr uint64_t kVarint = 0;
constexpr uint64_t kFixed64 = 1;
constexpr uint64_t kLengthDelimited = 2;
constexpr uint64_t kFixed32 = 5;

template <typename T>
std::string raw_bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value > 127; value >>= 7) bytes.push_back(static_cast<char>((value & 127) | 128));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string key(uint64_t field, uint64_t wire_type) {
  return varint((field << 3) | wire_type);
}

std::string nested(uint64_t field, const std::string& content) {
  return key(field, kLengthDelimited) + varint(content.size()) + content;
}

std::string step_field(int64_t step) {
  return key(kEventStep, kVarint) + varint(static_cast<uint64_t>(step));
}

/// TFRecord's checksum of data that may itself hold checksums.
uint32_t masked_crc32c(const std::string& bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8U;
}

std::string framed(const std::string& data) {
  const std::string length = raw_bytes<uint64_t>(data.size());
  return length + raw_bytes(masked_crc32c(length)) + data + raw_bytes(masked_crc32c(data));
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// TensorBoard reads the files of a folder in the order of their names: seconds first, then a counter.
std::filesystem::path unused_path(const std::filesystem::path& folder, double seconds) {
  const std::string stem =
      "events.out.tfevents." + std::to_string(static_cast<int64_t>(seconds)) + "." + host_name() + "." + std::to_string(getpid());
  std::filesystem::path path;
  int counter = 0;
  do {
    path = folder / (stem + "." + std::to_string(counter++));
  } while (std::filesystem::exists(path));
  return path;
}

std::filesystem::path make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw RunError(folder.string() + ": cannot be made: " + error.message());
  return folder;
}

}  // namespace

double wall_clock_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step, std::function<double()> clock)
    : clock_(std::move(clock)), path_(unused_path(make_folder(folder), clock_())), file_(path_, std::ios::binary) {
  write_event(nested(kEventFileVersion, "brain.Event:2"));
  if (first_step > 1) {
    write_event(step_field(first_step) + nested(kEventSessionLog, key(kSessionLogStatus, kVarint) + varint(kSessionStart)));
  }
  flush();
}

void TensorBoardWriter::add_scalar(const std::string& tag, int64_t step, double value) {
  const std::string scalar = nested(kValueTag, tag) + key(kValueSimpleValue, kFixed32) + raw_bytes(static_cast<float>(value));
  write_event(step_field(step) + nested(kEventSummary, nested(kSummaryValue, scalar)));
}

void TensorBoardWriter::flush() {
  if (!file_.flush()) throw RunError(path_.string() + ": cannot be written: " + std::strerror(errno));
}

void TensorBoardWriter::write_event(const std::string& fields) {
  file_ << framed(key(kEventWallTime, kFixed64) + raw_bytes(clock_()) + fields);
  if (!file_) throw RunError(path_.string() + ": cannot be written: " + std::strerror(errno));
}

}  // namespace switchyard
