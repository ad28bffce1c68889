#include "training/run_log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace switchyard {

RunLog::RunLog(bool speaks) : logger_(std::make_shared<spdlog::logger>("switchyard")) {
  if (!speaks) return;
  logger_->sinks().push_back(std::make_shared<spdlog::sinks::stdout_sink_mt>());
  logger_->set_pattern("%H:%M:%S %v");
  logger_->flush_on(spdlog::level::info);
}

void RunLog::open_file(const std::filesystem::path& file) {
  if (logger_->sinks().empty()) return;
  logger_->sinks().push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string(), /*truncate=*/false));
  logger_->sinks().back()->set_pattern("%Y-%m-%d %H:%M:%S %v");
}

void RunLog::info(const std::string& line) {
  logger_->info(line);
}
void RunLog::warn(const std::string& line) {
  logger_->warn("warning: " + line);
}

}  // namespace switchyard
