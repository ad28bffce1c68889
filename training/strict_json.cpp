#include "training/strict_json.h"

#include <limits>
#include <set>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace switchyard {
namespace {

using nlohmann::json;

/// Watches the parser go by.
class StrictnessCheck {
 public:
  explicit StrictnessCheck(int max_depth) : max_depth_(max_depth) {}

  void see(int depth, json::parse_event_t event, const json& parsed) {
    const bool opens = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth >= max_depth_) throw UserError("JSON is nested deeper than " + std::to_string(max_depth_) + " levels");
    if (event == json::parse_event_t::object_start) keys_of_open_objects_.emplace_back();
    if (event == json::parse_event_t::object_end) keys_of_open_objects_.pop_back();
    if (event == json::parse_event_t::key) see_key(parsed.get_ref<const std::string&>());
  }

 private:
  void see_key(const std::string& key) {
    if (!keys_of_open_objects_.back().insert(key).second) throw UserError("JSON has the key \"" + key + "\" twice in one object");
  }

  int max_depth_;
  std::vector<std::set<std::string>> keys_of_open_objects_;
};

}  // namespace

json parse_strict_json(std::string_view text, int max_depth) {
  // The parser takes a NUL byte for the end of the text and steps over a byte-order mark.
  if (text.find('\0') != std::string_view::npos) throw UserError("JSON contains a NUL byte");
  if (text.starts_with("\xEF\xBB\xBF")) throw UserError("JSON starts with a byte-order mark");
  StrictnessCheck check(max_depth);
  const auto callback = [&check](int depth, json::parse_event_t event, json& parsed) {
    check.see(depth, event, parsed);
    return true;
  };
  try {
    return json::parse(text, callback);
  } catch (const json::exception& fault) {
    throw UserError(std::string("JSON cannot be parsed: ") + fault.what());
  }
}

const json& required_member(const json& object, const std::string& key) {
  if (!object.is_object()) throw UserError("a JSON object with the key \"" + key + "\" was expected, found " + object.type_name());
  const auto member = object.find(key);
  if (member == object.end()) throw UserError("the key \"" + key + "\" is missing");
  return *member;
}

int64_t natural_number(const json& value, const std::string& what) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw UserError(what + " must be a whole number from 0 to 2^63 - 1, found " + value.dump());
  }
  return value.get<int64_t>();
}

std::vector<int64_t> natural_numbers(const json& value, const std::string& what) {
  if (!value.is_array()) throw UserError(what + " must be an array, found " + value.type_name());
  std::vector<int64_t> numbers;
  numbers.reserve(value.size());
  for (const json& element : value) numbers.push_back(natural_number(element, what));
  return numbers;
}

std::string string_value(const json& value, const std::string& what) {
  if (!value.is_string()) throw UserError(what + " must be a string, found " + value.type_name());
  return value.get<std::string>();
}

}  // namespace switchyard
