// Whole files in and out, for tests that damage them.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace switchyard {

inline std::string read_content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_content(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline void flip_byte(const std::filesystem::path& path, size_t offset) {
  std::string content = read_content(path);
  content.at(offset) = static_cast<char>(content.at(offset) ^ 0x01);
  write_content(path, content);
}

/// The message of the `Error` that `work` throws; "no error" when it throws none. Other exceptions fall through.
template <typename Error, typename Work>
std::string message_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace switchyard
