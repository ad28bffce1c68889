#include "training/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/error.h"

namespace switchyard {
namespace {

[[noreturn]] void fail_writing(const std::filesystem::path& path) {
  throw RunError(path.string() + ": cannot be written: " + std::strerror(errno));
}

/// The step of a line, or nothing where the line is no record.
std::optional<int64_t> step_of(const std::string& line) {
  const auto record = nlohmann::json::parse(line, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) return std::nullopt;
  const auto step = record.find("step");
  if (step == record.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

struct KeptLines {
  std::string text;
  int64_t num_dropped = 0;
};

KeptLines lines_up_to(const std::filesystem::path& path, int64_t step) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UserError(path.string() + ": cannot be opened: " + std::strerror(errno));
  KeptLines kept;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    const bool has_line_end = !file.eof();
    const bool is_last = !has_line_end || file.peek() == std::ifstream::traits_type::eof();
    const auto line_step = step_of(line);
    if (!line_step && !is_last) {
      throw UserError(path.string() + ":" + std::to_string(number) +
                      ": is no JSON object with an integer \"step\"; repair or remove the line");
    }
    if (line_step && has_line_end && *line_step <= step) {
      kept.text += line + '\n';
    } else {
      ++kept.num_dropped;
    }
  }
  return kept;
}

void write_durably(const std::filesystem::path& path, const std::string& text) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) fail_writing(path);
  bool good = true;
  for (size_t written = 0; good && written < text.size();) {
    const ssize_t count = ::write(descriptor, text.data() + written, text.size() - written);
    good = count >= 0 || errno == EINTR;
    if (count > 0) written += static_cast<size_t>(count);
  }
  good = good && fsync(descriptor) == 0;
  const int reason = errno;
  close(descriptor);
  errno = reason;
  if (!good) fail_writing(path);
}

}  // namespace

MetricsLog::MetricsLog(std::filesystem::path path) : path_(std::move(path)), file_(path_, std::ios::binary | std::ios::app) {
  if (!file_) fail_writing(path_);
}

void MetricsLog::write(const nlohmann::json& record) {
  const auto step = record.find("step");
  TORCH_CHECK(step != record.end() && step->is_number_integer(), "MetricsLog: a record needs an integer \"step\", got ", record.dump());
  file_ << record.dump() << '\n';
  if (!file_.flush()) fail_writing(path_);
}

int64_t cut_back(const std::filesystem::path& path, int64_t step) {
  if (!std::filesystem::exists(path)) return 0;
  const KeptLines kept = lines_up_to(path, step);
  if (kept.num_dropped == 0) return 0;
  auto replacement = path;
  replacement += ".tmp";
  write_durably(replacement, kept.text);
  std::filesystem::rename(replacement, path);
  return kept.num_dropped;
}

}  // namespace switchyard
