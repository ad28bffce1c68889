// CRC-32C (Castagnoli), the checksum of TFRecord frames. By table, so that it runs on every processor.
#pragma once

#include <cstdint>
#include <string_view>

namespace switchyard {

uint32_t crc32c(std::string_view bytes);

}  // namespace switchyard
