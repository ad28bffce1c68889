#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "training/text_stream.h"
#include "training/token_data.h"
#include "training/token_file.h"

namespace switchyard {
namespace {

class ConcatenatedStream : public TokenStream {
 public:
  explicit ConcatenatedStream(std::vector<std::unique_ptr<TokenStream>> parts) : parts_(std::move(parts)) {
    for (const auto& part : parts_) part_ends_.push_back(num_tokens() + part->num_tokens());
  }

  int64_t num_tokens() const override { return part_ends_.empty() ? 0 : part_ends_.back(); }

  std::optional<double> num_text_bytes(int64_t begin, int64_t end) const override {
    double total = 0;
    bool known = true;
    for_each_part(begin, end, [&](const TokenStream& part, int64_t part_begin, int64_t part_end) {
      const auto bytes = part.num_text_bytes(part_begin, part_end);
      known = known && bytes.has_value();
      total += bytes.value_or(0);
    });
    return known ? std::optional(total) : std::nullopt;
  }

  void read(int64_t begin, int64_t count, int64_t* out) const override {
    for_each_part(begin, begin + count, [&](const TokenStream& part, int64_t part_begin, int64_t part_end) {
      part.read(part_begin, part_end - part_begin, out);
      out += part_end - part_begin;
    });
  }

  std::optional<int64_t> end_of_document() const override {
    if (parts_.empty()) return std::nullopt;
    const auto token = parts_.front()->end_of_document();
    const auto agrees = [&](const auto& part) { return part->end_of_document() == token; };
    return std::ranges::all_of(parts_, agrees) ? token : std::nullopt;
  }

  uint64_t fingerprint() const override {
    uint64_t hash = 0;
    for (const auto& part : parts_) {
      const uint64_t part_hash = part->fingerprint();
      hash = xxh3(&part_hash, sizeof(part_hash), hash);
    }
    return hash;
  }

 private:
  /// visit(part, begin, end) for each part that tokens [begin, end) touch, in the part's own numbering.
  template <typename Visit>
  void for_each_part(int64_t begin, int64_t end, Visit visit) const {
    TORCH_CHECK(0 <= begin && begin <= end && end <= num_tokens(), "TokenStream: tokens [", begin, ", ", end, ") of ", num_tokens());
    auto part = std::upper_bound(part_ends_.begin(), part_ends_.end(), begin) - part_ends_.begin();
    while (begin < end) {
      const int64_t part_begin = part == 0 ? 0 : part_ends_[part - 1];
      const int64_t stop = std::min(end, part_ends_[part]);
      visit(*parts_[part], begin - part_begin, stop - part_begin);
      begin = stop;
      ++part;
    }
  }

  std::vector<std::unique_ptr<TokenStream>> parts_;
  std::vector<int64_t> part_ends_;  ///< tokens up to the end of each part
};

void refuse_unknown_documents(const std::vector<std::string>& paths, const TokenStream& stream, const DataConfig& config) {
  if (stream.end_of_document() || !(config.reset_attention_mask || config.reset_position_ids)) return;
  throw UserError(paths.front() + (paths.size() > 1 ? " and the other files of its source" : "") +
                  ": no .meta.json names one end_of_document token, which data." +
                  (config.reset_attention_mask ? "reset_attention_mask" : "reset_position_ids") +
                  " = true looks for; write the file with scripts/prepare_data.py, or add the key to its .meta.json");
}

}  // namespace

std::unique_ptr<TokenStream> open_token_stream(const std::vector<std::string>& paths, const DataConfig& config, int64_t vocab_size) {
  std::vector<std::unique_ptr<TokenStream>> parts;
  for (const auto& path : paths) {
    const bool is_text = config.format == DataFormat::kText;
    parts.push_back(is_text ? open_text_file(path, vocab_size) : open_token_file(path, config.token_dtype, vocab_size));
  }
  auto stream = std::make_unique<ConcatenatedStream>(std::move(parts));
  refuse_unknown_documents(paths, *stream, config);
  return stream;
}

}  // namespace switchyard
