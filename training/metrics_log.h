// metrics.jsonl: one JSON object a line, appended. Numbers read back to the same bits (shortest round trip); NaN and infinities, which JSON
// does not have, are written as null.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>

#include <nlohmann/json_fwd.hpp>

namespace switchyard {

class MetricsLog {
 public:
  /// Opens `path` for appending, and makes it where it is missing. Errors: RunError with the system's reason.
  explicit MetricsLog(std::filesystem::path path);

  /// Appends one line and hands it to the system, so that readers see it at once. `record` must have an integer "step".
  /// Errors: RunError when it cannot be written (a full disk).
  void write(const nlohmann::json& record);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

/// Keeps the records whose "step" is at most `step`, as they are to the byte, and drops the others and a torn last line (what a killed
/// process leaves). The file is replaced as a whole or not at all. Returns the number of lines dropped; 0 for a file that does not exist.
/// Call it before opening a MetricsLog. Errors: UserError naming file and line for a line that is no record and not the last; RunError when
/// the new file cannot be written.
int64_t cut_back(const std::filesystem::path& path, int64_t step);

}  // namespace switchyard
