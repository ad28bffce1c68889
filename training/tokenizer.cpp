#include "training/tokenizer.h"

#include "core/error.h"

namespace switchyard {

std::vector<int64_t> encode_bytes(const std::string& text) {
  std::vector<int64_t> tokens;
  tokens.reserve(text.size());
  for (const char character : text) tokens.push_back(static_cast<unsigned char>(character));
  return tokens;
}

std::string decode_bytes(const std::vector<int64_t>& tokens) {
  std::string text;
  text.reserve(tokens.size());
  for (const int64_t token : tokens) {
    if (token < 0 || token >= kByteVocabSize) {
      throw UserError("decode_bytes: token " + std::to_string(token) + " is not one of the byte tokenizer's " +
                      std::to_string(kByteVocabSize) + "; decode it with the tokenizer that made it");
    }
    text.push_back(token == kEndOfDocument ? '\n' : static_cast<char>(token));
  }
  return text;
}

}  // namespace switchyard
