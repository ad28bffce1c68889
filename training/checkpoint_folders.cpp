#include "training/checkpoint_folders.h"

#include <charconv>
#include <optional>
#include <vector>

#include "core/error.h"
#include "training/checkpoint.h"
#include "training/durable_file.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";

std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  int64_t step = 0;
  std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
  return name == checkpoint_name(step) ? std::optional(step) : std::nullopt;
}

std::vector<fs::path> list_folder(const fs::path& folder) {
  std::vector<fs::path> paths;
  try {
    for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  } catch (const fs::filesystem_error& error) {
    throw UserError(folder.string() + ": cannot be listed: " + error.code().message());
  }
  return paths;
}

bool can_be_opened(const fs::path& checkpoint) {
  try {
    CheckpointReader reader(checkpoint);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  return std::string(kStepPrefix) + std::to_string(step);
}

std::map<int64_t, fs::path> list_checkpoints(const fs::path& checkpoints_folder) {
  std::map<int64_t, fs::path> checkpoints;
  for (const fs::path& path : list_folder(checkpoints_folder)) {
    if (const auto step = step_of(path.filename().string())) checkpoints[*step] = path;
  }
  return checkpoints;
}

void remove_leftovers(const fs::path& checkpoints_folder) {
  for (const fs::path& path : list_folder(checkpoints_folder)) {
    const std::string name = path.filename().string();
    const bool is_ours = name.starts_with(kStepPrefix) || name.starts_with("latest");
    std::error_code error;
    if (is_ours && name.find(".tmp") != std::string::npos) fs::remove_all(path, error);
    if (error) throw RunError(path.string() + ": cannot remove what an unfinished save has left: " + error.message());
  }
}

void remove_old_checkpoints(const fs::path& checkpoints_folder, int64_t newest_step, int64_t keep) {
  const auto checkpoints = list_checkpoints(checkpoints_folder);
  int64_t num_kept = 0;
  for (auto checkpoint = checkpoints.rbegin(); checkpoint != checkpoints.rend(); ++checkpoint) {
    const auto& [step, path] = *checkpoint;
    if (step > newest_step) continue;
    if (num_kept == keep) {
      remove_folder_durably(path);
    } else if (can_be_opened(path)) {
      ++num_kept;
    }
  }
}

std::optional<fs::path> find_newest_checkpoint(const fs::path& checkpoints_folder, const std::function<void(const std::string&)>& warn) {
  if (!fs::exists(checkpoints_folder)) return std::nullopt;
  const auto checkpoints = list_checkpoints(checkpoints_folder);
  for (auto checkpoint = checkpoints.rbegin(); checkpoint != checkpoints.rend(); ++checkpoint) {
    const auto& [step, path] = *checkpoint;
    try {
      const CheckpointReader reader(path);
      if (reader.step() != step) throw UserError(path.string() + ": its manifest says step " + std::to_string(reader.step()));
      reader.verify();
      return path;
    } catch (const UserError& fault) {
      warn("checkpoint passed over: " + std::string(fault.what()));
    }
  }
  return std::nullopt;
}

}  // namespace switchyard
