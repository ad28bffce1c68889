#include "training/hf_keys.h"

#include "core/error.h"
#include "training/strict_json.h"

namespace switchyard {

HfKeys::HfKeys(const nlohmann::json& object, std::string place) : object_(object), place_(std::move(place)) {
  if (!object.is_object()) throw UserError(place_ + "a JSON object was expected, found " + object.type_name());
}

bool HfKeys::has(const std::string& key) const {
  return object_.contains(key) && !object_.at(key).is_null();
}

const nlohmann::json& HfKeys::value_of(const std::string& key) {
  if (!has(key)) throw UserError(place_ + key + " is missing");
  seen_.insert(key);
  return object_.at(key);
}

int64_t HfKeys::natural(const std::string& key) {
  return natural_number(value_of(key), place_ + key);
}

double HfKeys::number(const std::string& key, double otherwise) {
  if (!has(key)) return skip(key, otherwise);
  const auto& value = value_of(key);
  if (!value.is_number()) refuse(key, "a number was expected");
  return value.get<double>();
}

bool HfKeys::flag(const std::string& key, bool otherwise) {
  if (!has(key)) return skip(key, otherwise);
  const auto& value = value_of(key);
  if (value.is_number()) return value.get<double>() != 0.0;
  if (!value.is_boolean()) refuse(key, "true or false was expected");
  return value.get<bool>();
}

std::string HfKeys::text(const std::string& key, const std::string& otherwise) {
  return has(key) ? string_value(value_of(key), place_ + key) : skip(key, otherwise);
}

std::vector<int64_t> HfKeys::naturals(const std::string& key) {
  return natural_numbers(value_of(key), place_ + key);
}

std::vector<std::string> HfKeys::texts(const std::string& key) {
  std::vector<std::string> all;
  const auto& value = value_of(key);
  if (!value.is_array()) refuse(key, "an array of strings was expected");
  for (const auto& item : value) all.push_back(string_value(item, place_ + key));
  return all;
}

const nlohmann::json& HfKeys::object(const std::string& key) {
  return value_of(key);
}

void HfKeys::expect(const std::string& key, const nlohmann::json& value, const std::string& reason) {
  if (has(key) && value_of(key) != value) refuse(key, reason);
  seen_.insert(key);
}

void HfKeys::ignore(std::initializer_list<const char*> keys) {
  seen_.insert(keys.begin(), keys.end());
}

void HfKeys::refuse_others(const std::string& owner) const {
  for (const auto& [key, value] : object_.items()) {
    const bool asks_for_nothing = value.is_null() || (value.is_boolean() && !value.get<bool>());
    if (seen_.contains(key) || asks_for_nothing) continue;
    refuse(key, "is not a key that " + owner + " has; what it asks for would be left out");
  }
}

void HfKeys::refuse(const std::string& key, const std::string& reason) const {
  throw UserError(place_ + key + " = " + object_.at(key).dump() + ": " + reason);
}

}  // namespace switchyard
