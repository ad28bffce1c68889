#include "training/crc32c.h"

#include <array>

namespace switchyard {
namespace {

constexpr std::array<uint32_t, 256> make_table() {
  constexpr uint32_t kReversedPolynomial = 0x82f63b78;
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kReversedPolynomial : 0);
    table[byte] = remainder;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = make_table();

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t checksum = 0xffffffff;
  for (const char byte : bytes) checksum = (checksum >> 8) ^ kTable[(checksum ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~checksum;
}

}  // namespace switchyard
