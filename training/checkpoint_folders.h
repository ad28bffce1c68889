// Names in the checkpoints folder: which of them are checkpoints, which is the newest, which may go.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace switchyard {

constexpr const char* kManifestFile = "manifest.json";

/// "step-100".
std::string checkpoint_name(int64_t step);
/// The folders with such a name, by step; complete or not. Errors: UserError when the folder cannot be listed.
std::map<int64_t, std::filesystem::path> list_checkpoints(const std::filesystem::path& checkpoints_folder);

/// Removes what saves that never ended have left: "step-N.tmp-..." and "latest.tmp".
void remove_leftovers(const std::filesystem::path& checkpoints_folder);
/// Keeps the newest `keep` of the checkpoints up to `newest_step` that can be opened, and removes all that are older than these. Later
/// steps are left alone: they are what a resumed run has passed over and will replace when it gets there.
void remove_old_checkpoints(const std::filesystem::path& checkpoints_folder, int64_t newest_step, int64_t keep);

}  // namespace switchyard
