// JSON of files that must mean one thing only: where parsers differ (a key twice, a NUL byte, a byte-order mark) the text is refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace switchyard {

/// Arrays and objects may be nested `max_depth` deep. Errors: UserError that says what is wrong, without a file's name.
nlohmann::json parse_strict_json(std::string_view text, int max_depth);

/// `object[key]`. Errors: UserError when `object` is no object or has no such key.
const nlohmann::json& required_member(const nlohmann::json& object, const std::string& key);
/// A whole number from 0 to 2^63 - 1, written without sign, fraction or exponent. `what` names it in the UserError.
int64_t natural_number(const nlohmann::json& value, const std::string& what);
std::vector<int64_t> natural_numbers(const nlohmann::json& value, const std::string& what);
std::string string_value(const nlohmann::json& value, const std::string& what);

}  // namespace switchyard
