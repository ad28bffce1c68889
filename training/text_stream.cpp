#include "training/text_stream.h"

#include "core/error.h"
#include "training/mapped_file.h"
#include "training/tokenizer.h"

namespace switchyard {
namespace {

class TextFileStream : public TokenStream {
 public:
  explicit TextFileStream(const std::filesystem::path& path) : file_(path) {}

  int64_t num_tokens() const override { return file_.size_bytes() + 1; }

  std::optional<double> num_text_bytes(int64_t begin, int64_t end) const override {
    return static_cast<double>(std::min(end, file_.size_bytes()) - std::min(begin, file_.size_bytes()));
  }

  void read(int64_t begin, int64_t count, int64_t* out) const override {
    const int64_t num_bytes = std::min(count, file_.size_bytes() - begin);
    for (int64_t i = 0; i < num_bytes; ++i) out[i] = static_cast<unsigned char>(file_.data()[begin + i]);
    if (num_bytes < count) out[num_bytes] = kEndOfDocument;
  }

  std::optional<int64_t> end_of_document() const override { return kEndOfDocument; }

  uint64_t fingerprint() const override { return file_.fingerprint(); }

 private:
  MappedFile file_;
};

}  // namespace

std::unique_ptr<TokenStream> open_text_file(const std::filesystem::path& path, int64_t vocab_size) {
  if (vocab_size < kByteVocabSize) {
    throw UserError(path.string() + ": text needs model.vocab_size >= " + std::to_string(kByteVocabSize) +
                    " (256 bytes and the end of a document), got " + std::to_string(vocab_size));
  }
  return std::make_unique<TextFileStream>(path);
}

}  // namespace switchyard
