#include "training/config_value.h"

#include <charconv>
#include <cmath>

namespace switchyard {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Takes the decimal digits that `text` begins with.
std::string_view take_digits(std::string_view& text) {
  size_t count = 0;
  while (count < text.size() && is_digit(text[count])) ++count;
  const std::string_view digits = text.substr(0, count);
  text.remove_prefix(count);
  return digits;
}

/// A decimal number taken apart: sign, digits before and after the point, exponent.
struct DecimalParts {
  bool negative = false;
  std::string_view whole;
  std::string_view fraction;
  bool has_point = false;
  std::optional<int64_t> exponent;
};

std::optional<int64_t> take_exponent(std::string_view& text) {
  text.remove_prefix(1);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const std::string_view digits = take_digits(text);
  // Four digits are past every double, and small enough to count zeros with.
  if (digits.empty() || digits.size() > 4) return std::nullopt;
  int64_t exponent = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
  return negative ? -exponent : exponent;
}

std::optional<DecimalParts> split_decimal(std::string_view text) {
  DecimalParts parts;
  parts.negative = text.starts_with('-');
  if (parts.negative || text.starts_with('+')) text.remove_prefix(1);
  parts.whole = take_digits(text);
  parts.has_point = text.starts_with('.');
  if (parts.has_point) {
    text.remove_prefix(1);
    parts.fraction = take_digits(text);
  }
  if (parts.whole.empty() && parts.fraction.empty()) return std::nullopt;
  if (parts.whole.size() > 1 && parts.whole.front() == '0') return std::nullopt;
  if (text.starts_with('e') || text.starts_with('E')) {
    parts.exponent = take_exponent(text);
    if (!parts.exponent) return std::nullopt;
  }
  if (!text.empty()) return std::nullopt;
  return parts;
}

Problem read_scalar_text(const YamlNode& node, const std::string& wanted) {
  if (node.kind != YamlNode::Kind::kScalar) return "is not " + wanted;
  if (node.quoted) return "is text in quotes, not " + wanted + "; write it without quotes";
  return std::nullopt;
}

bool is_text(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && !node.text.empty();
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  const auto parts = split_decimal(text);
  if (!parts || (parts->has_point && !parts->exponent)) return std::nullopt;
  std::string digits = std::string(parts->whole) + std::string(parts->fraction);
  const int64_t shift = parts->exponent.value_or(0) - std::ssize(parts->fraction);
  if (shift >= 0) {
    digits.append(shift, '0');
  } else {
    const size_t kept = digits.size() - std::min<int64_t>(-shift, std::ssize(digits));
    if (digits.find_first_not_of('0', kept) != std::string::npos) return std::nullopt;
    digits.resize(kept);
  }
  if (digits.empty()) digits.push_back('0');
  if (parts->negative) digits.insert(digits.begin(), '-');
  int64_t value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
  if (!split_decimal(text)) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0.0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::string number_text(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general).ptr};
}

std::string quoted_text(const std::string& text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 32 || byte == 127) {
      quoted += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

std::string list_text(const std::vector<std::string>& items) {
  std::string text(1, '[');
  text += join(items);
  text += ']';
  return text;
}

Problem IntegerValue::read(const YamlNode& node, int64_t& value) const {
  if (Problem problem = read_scalar_text(node, "a whole number")) return problem;
  const auto parsed = parse_integer(node.text);
  if (!parsed) return "is not a whole number; write decimal digits, such as 1000 or 1e3";
  if (*parsed < least || *parsed > most) return "is out of range; use " + range();
  value = *parsed;
  return std::nullopt;
}

std::string IntegerValue::range() const {
  const std::string from = std::to_string(least);
  if (least == most) return from;
  return most == std::numeric_limits<int64_t>::max() ? from + " or more" : from + " to " + std::to_string(most);
}

Problem NumberValue::read(const YamlNode& node, double& value) const {
  if (Problem problem = read_scalar_text(node, "a number")) return problem;
  const auto parsed = parse_number(node.text);
  if (!parsed) return "is not a finite number; write it such as 0.001 or 1e-3";
  const bool too_small = least_excluded ? *parsed <= least : *parsed < least;
  const bool too_large = most_excluded ? *parsed >= most : *parsed > most;
  if (too_small || too_large) return "is out of range; use " + range();
  value = *parsed;
  return std::nullopt;
}

std::string NumberValue::range() const {
  std::string text = least_excluded ? "more than " + number_text(least) : number_text(least) + " or more";
  if (std::isfinite(most)) text += (most_excluded ? ", less than " : ", at most ") + number_text(most);
  return text;
}

Problem OptionalNumberValue::read(const YamlNode& node, std::optional<double>& value) const {
  if (node.kind == YamlNode::Kind::kNull) {
    value.reset();
    return std::nullopt;
  }
  double number_read = 0.0;
  if (Problem problem = number.read(node, number_read)) return problem;
  value = number_read;
  return std::nullopt;
}

Problem BooleanValue::read(const YamlNode& node, bool& value) const {
  if (Problem problem = read_scalar_text(node, "true or false")) return problem;
  if (node.text != "true" && node.text != "false") return "is not true or false; write one of these two words";
  value = node.text == "true";
  return std::nullopt;
}

Problem TextValue::read(const YamlNode& node, std::string& value) const {
  if (!is_text(node)) return "is not a text; write one, in quotes where it has special characters";
  value = node.text;
  return std::nullopt;
}

Problem OptionalTextValue::read(const YamlNode& node, std::optional<std::string>& value) const {
  if (node.kind == YamlNode::Kind::kNull) {
    value.reset();
    return std::nullopt;
  }
  std::string text;
  if (Problem problem = TextValue{}.read(node, text)) return problem;
  value = text;
  return std::nullopt;
}

Problem TextListValue::read(const YamlNode& node, std::vector<std::string>& value) const {
  std::vector<std::string> texts;
  for (const YamlNode& item : node.kind == YamlNode::Kind::kList ? node.items : std::vector{node}) {
    if (!is_text(item)) return "is not a text or a list of texts";
    texts.push_back(item.text);
  }
  if (texts.empty() && !may_be_empty) return "is empty; name at least one";
  value = std::move(texts);
  return std::nullopt;
}

std::string TextListValue::write(const std::vector<std::string>& value) const {
  std::vector<std::string> quoted;
  for (const std::string& text : value) quoted.push_back(quoted_text(text));
  return list_text(quoted);
}

}  // namespace switchyard
