// Lines for people: on the screen and in the run folder's log.txt. Rank 0 speaks, the others are silent.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace spdlog {
class logger;
}

namespace switchyard {

class RunLog {
 public:
  /// A silent log writes nothing anywhere.
  explicit RunLog(bool speaks);
  /// From here on lines also go to `file`, behind what it holds.
  void open_file(const std::filesystem::path& file);

  void info(const std::string& line);
  void warn(const std::string& line);

 private:
  std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace switchyard
