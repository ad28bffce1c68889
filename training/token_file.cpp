#include "training/token_file.h"

#include <string_view>

#include "core/error.h"
#include "core/hash.h"
#include "training/mapped_file.h"
#include "training/token_index.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

class TokenFileStream : public TokenStream {
 public:
  TokenFileStream(MappedFile ids, const StoredType& type, std::optional<MappedFile> index, std::optional<TokenSidecar> sidecar,
                  int64_t vocab_size)
      : ids_(std::move(ids)), type_(type), index_(std::move(index)), sidecar_(std::move(sidecar)), vocab_size_(vocab_size) {}

  int64_t num_tokens() const override { return ids_.size_bytes() / type_.size_bytes; }

  std::optional<double> num_text_bytes(int64_t begin, int64_t end) const override {
    if (!sidecar_ || !sidecar_->num_text_bytes) return std::nullopt;
    const double share = static_cast<double>(end - begin) / static_cast<double>(num_tokens());
    return static_cast<double>(*sidecar_->num_text_bytes) * share;
  }

  void read(int64_t begin, int64_t count, int64_t* out) const override {
    type_.widen(ids_.data() + begin * type_.size_bytes, count, out);
    for (int64_t i = 0; i < count; ++i) {
      if (out[i] < 0 || out[i] >= vocab_size_) refuse_token(begin + i, out[i]);
    }
  }

  std::optional<int64_t> end_of_document() const override { return sidecar_ ? sidecar_->end_of_document : std::nullopt; }

  uint64_t fingerprint() const override {
    const uint64_t hash = xxh3(std::string_view(type_.name), ids_.fingerprint());
    if (!index_) return hash;
    const uint64_t index_hash = index_->fingerprint();
    return xxh3(&index_hash, sizeof(index_hash), hash);
  }

 private:
  [[noreturn]] void refuse_token(int64_t position, int64_t id) const {
    throw RunError(ids_.path().string() + ": token " + std::to_string(position) + " (byte " + std::to_string(position * type_.size_bytes) +
                   ") has id " + std::to_string(id) + ", outside model.vocab_size = " + std::to_string(vocab_size_));
  }

  MappedFile ids_;
  const StoredType& type_;
  std::optional<MappedFile> index_;
  std::optional<TokenSidecar> sidecar_;
  int64_t vocab_size_;
};

fs::path ids_path_of(const std::string& path) {
  const fs::path with_ending(path + ".bin");
  return !fs::exists(path) && fs::exists(with_ending) ? with_ending : fs::path(path);
}

fs::path beside(fs::path ids_path, const char* ending) {
  return ids_path.replace_extension(ending);
}

void refuse_other_formats(const MappedFile& ids) {
  const std::string_view head(ids.data(), static_cast<size_t>(std::min<int64_t>(ids.size_bytes(), 9)));
  if (head.starts_with("MMIDIDX")) throw UserError(ids.path().string() + ": is an index; give the .bin file that it belongs to");
  if (head.starts_with("\x93NUMPY")) throw UserError(ids.path().string() + ": has a NumPy header; write headerless ids (array.tofile)");
}

void check_size(const MappedFile& ids, const StoredType& type) {
  if (ids.size_bytes() % type.size_bytes == 0) return;
  throw UserError(ids.path().string() + ": " + std::to_string(ids.size_bytes()) + " bytes are no whole number of " + type.name +
                  " ids: truncated, or data.token_dtype is wrong");
}

void check_sidecar(const TokenSidecar& sidecar, const MappedFile& ids, const StoredType& type, int64_t vocab_size) {
  const std::string place = ids.path().string() + ": ";
  if (sidecar.num_tokens != ids.size_bytes() / type.size_bytes) {
    throw UserError(place + std::to_string(ids.size_bytes()) + " bytes of " + type.name + " ids, but its .meta.json says num_tokens = " +
                    std::to_string(sidecar.num_tokens) + ": truncated, or not the file that was described");
  }
  if (sidecar.vocab_size && *sidecar.vocab_size > vocab_size) {
    throw UserError(place + "its .meta.json says vocab_size = " + std::to_string(*sidecar.vocab_size) +
                    ", more than model.vocab_size = " + std::to_string(vocab_size) + "; raise model.vocab_size");
  }
  if (sidecar.end_of_document && *sidecar.end_of_document >= vocab_size) {
    throw UserError(place + "its .meta.json says end_of_document = " + std::to_string(*sidecar.end_of_document) +
                    ", outside model.vocab_size = " + std::to_string(vocab_size) + "; raise model.vocab_size");
  }
}

}  // namespace

std::unique_ptr<TokenStream> open_token_file(const std::string& path, const std::string& token_dtype, int64_t vocab_size) {
  MappedFile ids(ids_path_of(path));
  refuse_other_formats(ids);
  std::optional<MappedFile> index;
  if (const fs::path index_path = beside(ids.path(), ".idx"); fs::exists(index_path)) index.emplace(index_path);
  const StoredType& type = index ? check_token_index(*index, ids.size_bytes()) : stored_type_of_name(token_dtype);
  check_size(ids, type);
  auto sidecar = read_token_sidecar(beside(ids.path(), ".meta.json"));
  if (sidecar) check_sidecar(*sidecar, ids, type, vocab_size);
  return std::make_unique<TokenFileStream>(std::move(ids), type, std::move(index), std::move(sidecar), vocab_size);
}

}  // namespace switchyard
