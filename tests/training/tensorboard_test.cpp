#include "training/tensorboard.h"

#include <cstring>

#include "core/error.h"
#include "tests/training/data_files.h"
#include "training/crc32c.h"

namespace switchyard {
namespace {

template <typename T>
T load(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

uint32_t masked(uint32_t checksum) {
  return ((checksum >> 15) | (checksum << 17)) + 0xa282ead8U;
}

/// The messages of a TFRecord file, frames and checksums checked.
std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  size_t offset = 0;
  while (offset < file.size()) {
    const auto length = load<uint64_t>(file, offset);
    EXPECT_EQ(load<uint32_t>(file, offset + 8), masked(crc32c(file.substr(offset, 8))));
    records.push_back(file.substr(offset + 12, length));
    EXPECT_EQ(load<uint32_t>(file, offset + 12 + length), masked(crc32c(records.back())));
    offset += 16 + length;
  }
  EXPECT_EQ(offset, file.size());
  return records;
}

class TensorBoard : public DataFiles {
 protected:
  TensorBoardWriter writer(int64_t first_step) const {
    return {path("tensorboard"), first_step, [] { return 1.5; }};
  }
  std::vector<std::string> records(const TensorBoardWriter& of) const {
    return records_of(read(std::filesystem::path("tensorboard") / of.path().filename()));
  }
};

const std::string kWallTime("\x09\x00\x00\x00\x00\x00\x00\xf8\x3f", 9);  // field 1, fixed64, 1.5

TEST(Crc32c, GivesTheCheckValuesOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

TEST_F(TensorBoard, BeginsWithTheFileVersion) {
  const auto events = records(writer(1));
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0], kWallTime +
                           "\x1a\x0d"
                           "brain.Event:2");  // field 3, 13 bytes
}

TEST_F(TensorBoard, WritesAScalarAsAnEventByHand) {
  auto events = writer(1);
  events.add_scalar("loss", 300, 2.0);
  events.flush();
  const auto written = records(events);
  ASSERT_EQ(written.size(), 2U);
  // step 300 = varint ac 02 | summary of 13 bytes { value of 11 bytes { tag "loss" | simple_value, fixed32, 2.0f } }
  EXPECT_EQ(written[1], kWallTime + std::string("\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x40", 18));
}

TEST_F(TensorBoard, TellsWhereAResumedRunBegins) {
  const auto written = records(writer(8));
  ASSERT_EQ(written.size(), 2U);
  EXPECT_EQ(written[1], kWallTime + "\x10\x08\x3a\x02\x08\x01");  // step 8, session_log { status START }
}

TEST_F(TensorBoard, NeverWritesIntoTheFileOfAnotherWriter) {
  auto first = writer(1);
  auto second = writer(1);
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path(), second.path()) << "TensorBoard reads the files in the order of their names";
}

TEST_F(TensorBoard, FailsWhereTheFolderCannotBeMade) {
  write("tensorboard", "a file");
  EXPECT_THROW(writer(1), RunError);
}

}  // namespace
}  // namespace switchyard
