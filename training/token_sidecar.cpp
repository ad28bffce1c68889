#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/token_index.h"

namespace switchyard {
namespace {

std::optional<int64_t> read_count(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if (!found->is_number_integer() || found->get<int64_t>() < 0) throw std::invalid_argument(std::string("key ") + key + " is not a count");
  return found->get<int64_t>();
}

}  // namespace

std::optional<TokenSidecar> read_token_sidecar(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    std::ifstream file(path);
    const auto object = nlohmann::json::parse(file);
    const auto num_tokens = read_count(object, "num_tokens");
    if (!num_tokens) throw std::invalid_argument("key num_tokens is missing");
    return TokenSidecar{*num_tokens, read_count(object, "num_bytes"), read_count(object, "vocab_size"),
                        read_count(object, "end_of_document")};
  } catch (const std::exception& error) {
    throw UserError(path.string() + ": is no sidecar of a token file: " + error.what() + "; write the token files again, or remove it");
  }
}

}  // namespace switchyard
