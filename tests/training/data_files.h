// Small data files for tests, written byte by byte.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "training/run_config.h"

namespace switchyard {

/// A folder that lives as long as one test.
class DataFiles : public ::testing::Test {
 protected:
  DataFiles() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("switchyard_" + std::to_string(::getpid()) + "_" + test->test_suite_name() + "_" + test->name());
    std::filesystem::create_directories(folder_);
  }
  ~DataFiles() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ / name; }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }

  std::string read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path folder_;
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline DataConfig text_format() {
  DataConfig config;
  config.format = DataFormat::kText;
  return config;
}

inline DataConfig token_format(const std::string& token_dtype = "uint16") {
  DataConfig config;
  config.format = DataFormat::kTokens;
  config.token_dtype = token_dtype;
  return config;
}

inline DataSource data_source(const std::string& name, const std::string& path, double weight = 1) {
  DataSource source;
  source.name = name;
  source.paths = {path};
  source.weight = weight;
  return source;
}

/// A Megatron index, field by field; a test changes one field to make it wrong.
struct IndexFields {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  uint64_t version = 1;
  uint8_t dtype_code = 8;  // uint16
  std::vector<int32_t> lengths = {};
  std::vector<int64_t> pointers = {};
  std::vector<int64_t> document_indices = {};

  std::string bytes() const {
    return magic + bytes_of<uint64_t>({version}) + bytes_of<uint8_t>({dtype_code}) +
           bytes_of<uint64_t>({lengths.size(), document_indices.size()}) + bytes_of(lengths) + bytes_of(pointers) +
           bytes_of(document_indices);
  }
};

/// Two documents of 3 and 2 uint16 tokens.
inline IndexFields two_documents() {
  return {.lengths = {3, 2}, .pointers = {0, 6}, .document_indices = {0, 1, 2}};
}

}  // namespace switchyard
