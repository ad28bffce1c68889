#include <algorithm>

#include "core/error.h"
#include "training/config_reader.h"

namespace switchyard {
namespace {

constexpr int64_t kMaxShownFaults = 50;
constexpr size_t kMaxValueBytes = 80;

/// A fault is one line, whatever the file holds.
std::string as_one_line(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 32; }, ' ');
  return text;
}

}  // namespace

void ConfigFaults::add(int64_t line, const std::string& sentence) {
  faults_.emplace(line, as_one_line(sentence));
}

void ConfigFaults::add(int64_t line, const std::string& key, const std::string& sentence) {
  bad_keys_.insert(key);
  add(line, sentence);
}

void ConfigFaults::add_value(int64_t line, const std::string& key, const std::string& value, const std::string& problem) {
  const std::string shown = value.size() <= kMaxValueBytes ? value : value.substr(0, kMaxValueBytes) + "...";
  add(line, key, key + " = " + shown + " " + problem);
}

bool ConfigFaults::is_bad(const std::string& key) const {
  const auto is_part = [&](const std::string& bad) {
    return bad.starts_with(key) && (bad.size() == key.size() || bad[key.size()] == '.' || bad[key.size()] == '[');
  };
  return std::ranges::any_of(bad_keys_, is_part);
}

void ConfigFaults::throw_if_any() const {
  if (faults_.empty()) return;
  std::string message;
  int64_t num_shown = 0;
  for (const auto& [line, sentence] : faults_) {
    if (num_shown++ == kMaxShownFaults) {
      message += "\n... and " + std::to_string(faults_.size() - kMaxShownFaults) + " more";
      break;
    }
    const std::string file_place = line == 0 ? path_ : path_ + ":" + std::to_string(line);
    message += (message.empty() ? "" : "\n") + (line == kCommandLine ? "command line" : file_place) + ": " + sentence;
  }
  throw UserError(message);
}

int64_t GivenKeys::line_of(const std::string& key) const {
  std::string place = key;
  while (!place.empty()) {
    if (const auto found = lines_.find(place); found != lines_.end()) return found->second;
    const size_t end_of_parent = place.find_last_of(".[");
    place.resize(end_of_parent == std::string::npos ? 0 : end_of_parent);
  }
  return 0;
}

}  // namespace switchyard
