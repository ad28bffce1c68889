// One 64-bit hash for everything that must be the same on every machine: seeds by name, checksums of checkpoints, configuration hashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

/// XXH3 (64 bits) of `size_bytes` bytes at `data`; `seed` makes independent families of hashes.
uint64_t xxh3(const void* data, size_t size_bytes, uint64_t seed = 0);

inline uint64_t xxh3(std::string_view text, uint64_t seed = 0) {
  return xxh3(text.data(), text.size(), seed);
}

/// Sixteen hexadecimal digits, as checksums are written in manifests and logs.
std::string hex64(uint64_t value);

}  // namespace switchyard
