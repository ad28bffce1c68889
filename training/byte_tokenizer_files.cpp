#include "training/byte_tokenizer_files.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/tokenizer.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr const char* kEndOfText = "<|endoftext|>";

/// The printable character that GPT-2's byte-level alphabet shows a byte as: printable Latin-1 bytes stand for themselves, the others, in
/// order, for U+0100, U+0101, ... Returned in UTF-8.
std::string byte_character(int byte) {
  const auto is_printable = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF); };
  int code = byte;
  if (!is_printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += is_printable(b) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

void write(const std::filesystem::path& path, const json& content) {
  std::ofstream file(path);
  file << content.dump(2) << "\n";
  file.close();
  if (!file) throw RunError(path.string() + ": cannot be written (no space, or no permission)");
}

}  // namespace

void write_byte_tokenizer_files(const std::filesystem::path& folder, int64_t max_sequence_length) {
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_character(byte)] = byte;
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const json end_of_text = {{"id", kEndOfDocument}, {"content", kEndOfText}, {"single_word", false}, {"lstrip", false},
                            {"rstrip", false},      {"normalized", false},   {"special", true}};
  write(folder / "tokenizer.json", {{"version", "1.0"},
                                    {"truncation", nullptr},
                                    {"padding", nullptr},
                                    {"added_tokens", {end_of_text}},
                                    {"normalizer", nullptr},
                                    {"pre_tokenizer", byte_level},
                                    {"post_processor", nullptr},
                                    {"decoder", byte_level},
                                    {"model",
                                     {{"type", "BPE"},
                                      {"dropout", nullptr},
                                      {"unk_token", nullptr},
                                      {"continuing_subword_prefix", nullptr},
                                      {"end_of_word_suffix", nullptr},
                                      {"fuse_unk", false},
                                      {"byte_fallback", false},
                                      {"vocab", vocabulary},
                                      {"merges", json::array()}}}});
  write(folder / "tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                           {"eos_token", kEndOfText},
                                           {"bos_token", kEndOfText},
                                           {"model_max_length", max_sequence_length},
                                           {"clean_up_tokenization_spaces", false}});
}

}  // namespace switchyard
