// The folder of one run:
//   config.yaml        the resolved configuration      command.txt   the command lines that ran it
//   metrics.jsonl      one record a step               log.txt       what the screen showed
//   tb/                TensorBoard events              checkpoints/step-N
#pragma once

#include <filesystem>
#include <string>

#include "training/run_config.h"

namespace switchyard {

class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config_file() const { return path_ / "config.yaml"; }
  std::filesystem::path metrics_file() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log_file() const { return path_ / "log.txt"; }
  std::filesystem::path command_file() const { return path_ / "command.txt"; }
  std::filesystem::path tensorboard_folder() const { return path_ / "tb"; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }

  /// Refuses a folder that holds another job: UserError with the differences. Reads only; any rank may call it before MPI starts.
  void check_same_job(const RunConfig& config) const;
  /// Creates the folder and writes config.yaml and a line of command.txt. One rank. Errors: UserError when it cannot be written.
  void prepare(const RunConfig& config, const std::string& command_line) const;

 private:
  std::filesystem::path path_;
};

/// The resolved configuration of a run, for one rank: the layout of the job that wrote it is no concern of whoever reads it.
RunConfig load_config_of_run(const RunFolder& folder, const std::vector<std::string>& overrides = {});

}  // namespace switchyard
