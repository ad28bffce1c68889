#include "training/token_index.h"

#include <bit>
#include <cstring>
#include <string_view>

#include "core/error.h"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian and read as they lie");

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr int64_t kVersionOffset = 9;
constexpr int64_t kTypeOffset = 17;
constexpr int64_t kNumSequencesOffset = 18;
constexpr int64_t kNumDocumentsOffset = 26;
constexpr int64_t kHeaderBytes = 34;

// The arrays begin at any offset, so every value is copied out.
template <typename T>
T load(const char* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

template <typename T>
void widen(const char* stored, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int64_t>(load<T>(stored + i * static_cast<int64_t>(sizeof(T))));
}

template <typename T>
constexpr StoredType stored_type(const char* name) {
  return {name, sizeof(T), &widen<T>};
}

constexpr StoredType kUint8 = stored_type<uint8_t>("uint8");
constexpr StoredType kInt8 = stored_type<int8_t>("int8");
constexpr StoredType kInt16 = stored_type<int16_t>("int16");
constexpr StoredType kInt32 = stored_type<int32_t>("int32");
constexpr StoredType kInt64 = stored_type<int64_t>("int64");
constexpr StoredType kUint16 = stored_type<uint16_t>("uint16");
constexpr StoredType kUint32 = stored_type<uint32_t>("uint32");

struct IndexLayout {
  int64_t num_sequences;
  int64_t num_documents;
  int64_t pointers_begin() const { return kHeaderBytes + 4 * num_sequences; }
  int64_t documents_begin() const { return kHeaderBytes + 12 * num_sequences; }
  int64_t end() const { return documents_begin() + 8 * num_documents; }
};

[[noreturn]] void refuse(const MappedFile& index, const std::string& problem) {
  throw UserError(index.path().string() + ": " + problem + "; write the .bin and .idx again");
}

const StoredType& check_header(const MappedFile& index) {
  if (index.size_bytes() < kHeaderBytes) {
    refuse(index, "is truncated: " + std::to_string(index.size_bytes()) + " bytes, the header alone has " + std::to_string(kHeaderBytes));
  }
  if (std::string_view(index.data(), kMagic.size()) != kMagic) refuse(index, "does not begin with MMIDIDX: not a Megatron index");
  const auto version = load<uint64_t>(index.data() + kVersionOffset);
  if (version != 1) refuse(index, "has version " + std::to_string(version) + ", only 1 is known");
  const int code = load<uint8_t>(index.data() + kTypeOffset);
  const StoredType* type = stored_type_of_code(code);
  if (type == nullptr) refuse(index, "has dtype code " + std::to_string(code) + ", which is no integer type");
  return *type;
}

IndexLayout check_layout(const MappedFile& index) {
  const auto num_sequences = load<uint64_t>(index.data() + kNumSequencesOffset);
  const auto num_documents = load<uint64_t>(index.data() + kNumDocumentsOffset);
  const auto size = static_cast<uint64_t>(index.size_bytes());
  // Counts first, so that the sizes below cannot overflow.
  if (num_sequences > size / 12 || num_documents > size / 8) {
    refuse(index, "is truncated: too short for its " + std::to_string(num_sequences) + " sequences and " + std::to_string(num_documents) +
                      " document indices");
  }
  const IndexLayout layout{static_cast<int64_t>(num_sequences), static_cast<int64_t>(num_documents)};
  const int64_t with_modes = layout.end() + layout.num_sequences;
  if (index.size_bytes() != layout.end() && index.size_bytes() != with_modes) {
    refuse(index, "has " + std::to_string(index.size_bytes()) + " bytes instead of " + std::to_string(layout.end()) +
                      ": truncated, or something follows it");
  }
  return layout;
}

void check_sequences(const MappedFile& index, const IndexLayout& layout, int64_t bin_bytes, int64_t token_bytes) {
  int64_t expected_begin = 0;
  for (int64_t i = 0; i < layout.num_sequences; ++i) {
    const auto length = load<int32_t>(index.data() + kHeaderBytes + 4 * i);
    const auto begin = load<int64_t>(index.data() + layout.pointers_begin() + 8 * i);
    const std::string sequence = "sequence " + std::to_string(i);
    if (length < 0) refuse(index, sequence + " has length " + std::to_string(length));
    const int64_t length_bytes = length * token_bytes;
    if (begin < 0 || begin > bin_bytes || length_bytes > bin_bytes - begin) {
      refuse(index, sequence + " (byte " + std::to_string(begin) + ", " + std::to_string(length_bytes) +
                        " bytes) points outside the .bin file of " + std::to_string(bin_bytes) + " bytes");
    }
    if (begin != expected_begin) {
      refuse(index, sequence + " begins at byte " + std::to_string(begin) + ", the one before ends at " + std::to_string(expected_begin));
    }
    expected_begin = begin + length_bytes;
  }
  if (expected_begin != bin_bytes) {
    refuse(index, "covers " + std::to_string(expected_begin) + " of the .bin file's " + std::to_string(bin_bytes) +
                      " bytes: they do not belong together");
  }
}

void check_documents(const MappedFile& index, const IndexLayout& layout) {
  int64_t previous = 0;
  for (int64_t i = 0; i < layout.num_documents; ++i) {
    const auto sequence = load<int64_t>(index.data() + layout.documents_begin() + 8 * i);
    const bool wrong_start = i == 0 && sequence != 0;
    if (wrong_start || sequence < previous || sequence > layout.num_sequences) {
      refuse(index, "document index " + std::to_string(i) + " is " + std::to_string(sequence) + ", out of order or beyond its " +
                        std::to_string(layout.num_sequences) + " sequences");
    }
    previous = sequence;
  }
}

}  // namespace

const StoredType* stored_type_of_code(int code) {
  switch (code) {
    case 1:
      return &kUint8;
    case 2:
      return &kInt8;
    case 3:
      return &kInt16;
    case 4:
      return &kInt32;
    case 5:
      return &kInt64;
    case 8:
      return &kUint16;
    default:
      return nullptr;
  }
}

const StoredType& stored_type_of_name(const std::string& name) {
  if (name == kUint16.name) return kUint16;
  if (name == kUint32.name) return kUint32;
  throw UserError("data.token_dtype = " + name + " is not known; use uint16 or uint32");
}

const StoredType& check_token_index(const MappedFile& index, int64_t bin_bytes) {
  const StoredType& type = check_header(index);
  const IndexLayout layout = check_layout(index);
  check_sequences(index, layout, bin_bytes, type.size_bytes);
  check_documents(index, layout);
  return type;
}

}  // namespace switchyard
