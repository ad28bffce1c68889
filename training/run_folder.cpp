#include "training/run_folder.h"

#include <fstream>

#include "core/error.h"
#include "core/hash.h"

namespace switchyard {

RunConfig load_config_of_run(const RunFolder& folder, const std::vector<std::string>& overrides) {
  std::vector<std::string> all = {"parallel.expert=1"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return load_run_config(folder.config_file().string(), all, /*world_size=*/1);
}

void RunFolder::check_same_job(const RunConfig& config) const {
  if (!std::filesystem::exists(config_file())) return;
  const auto before = load_config_of_run(*this);
  const auto differences = job_differences(before, config);
  if (differences.empty()) return;
  std::string message = path_.string() + " holds another job; use another --run folder, or take back these changes:";
  for (const auto& difference : differences) message += "\n  " + difference;
  throw UserError(message);
}

void RunFolder::prepare(const RunConfig& config, const std::string& command_line) const {
  std::error_code error;
  std::filesystem::create_directories(checkpoints(), error);
  if (error) throw UserError(path_.string() + ": the run folder cannot be created: " + error.message() + "; choose another with --run");
  const auto partial = path_ / "config.yaml.tmp";
  std::ofstream file(partial);
  file << to_yaml(config);
  file.close();
  if (!file) throw UserError(partial.string() + ": cannot be written (no space, or no permission); choose another folder with --run");
  std::filesystem::rename(partial, config_file());
  std::ofstream(command_file(), std::ios::app) << command_line << "\n";
}

}  // namespace switchyard
