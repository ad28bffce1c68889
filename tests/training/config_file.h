// Configurations for tests: two good ones, and a file that lives as long as its object.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "training/run_config.h"

namespace switchyard {

inline const char* const kDenseConfig = R"(config_version: 1
model:
  num_layers: 4
  hidden_size: 16
  num_attention_heads: 2
  max_sequence_length: 32
data:
  sources:
    - name: a
      path: a.txt
schedule:
  kind: cosine
training:
  steps: 20
  global_batch_size: 16
  micro_batch_size: 4
)";

inline const char* const kMoeConfig = R"(config_version: 1
model:
  num_layers: 4
  hidden_size: 16
  num_attention_heads: 2
  max_sequence_length: 32
  moe:
    num_experts: 8
    ffn_hidden_size: 12
    capacity_factor: 2.0
data:
  sources:
    - name: a
      path: a.txt
training:
  steps: 20
  global_batch_size: 16
  micro_batch_size: 4
)";

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) {
    static int num_files = 0;
    const std::string name = "config." + std::to_string(getpid()) + "." + std::to_string(num_files++) + ".yaml";
    path_ = std::filesystem::temp_directory_path() / name;
    std::ofstream(path_) << text;
  }
  ~ConfigFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;

  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// The configuration that a file with this text holds.
inline RunConfig load(const std::string& text, const std::vector<std::string>& overrides = {}, int64_t world_size = 1) {
  const ConfigFile file(text);
  return load_run_config(file.path(), overrides, world_size);
}

}  // namespace switchyard
