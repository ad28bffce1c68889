// Reading a Hugging Face config.json so that no key goes by unseen: what a family's reader does not ask for may change what the model
// computes.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace switchyard {

/// One JSON object whose keys are asked for one by one. A key that is null counts as absent, unless a function says otherwise. Errors of
/// all: UserError that names the key, its value and what is wrong with it.
class HfKeys {
 public:
  /// place: what stands before a key in messages ("config.json: ", "config.json: rope_parameters."). The object must outlive this.
  HfKeys(const nlohmann::json& object, std::string place);

  /// Present, and not null.
  bool has(const std::string& key) const;
  /// Whether the key is there at all, if only as null.
  bool names(const std::string& key) const { return object_.contains(key); }

  int64_t natural(const std::string& key);
  int64_t natural(const std::string& key, int64_t otherwise) { return has(key) ? natural(key) : skip(key, otherwise); }
  double number(const std::string& key, double otherwise);
  /// true and false; a number counts as true unless it is 0.
  bool flag(const std::string& key, bool otherwise);
  std::string text(const std::string& key, const std::string& otherwise);
  std::vector<int64_t> naturals(const std::string& key);
  std::vector<std::string> texts(const std::string& key);
  const nlohmann::json& object(const std::string& key);

  /// Refuses any value but this one; absent is good. `reason`: a sentence without the value.
  void expect(const std::string& key, const nlohmann::json& value, const std::string& reason);
  /// Of a family, but of no meaning for what its model computes.
  void ignore(std::initializer_list<const char*> keys);
  /// Refuses what nobody asked for, unless it is null or false, which ask for nothing. `owner`: whose keys these are.
  void refuse_others(const std::string& owner) const;

  [[noreturn]] void refuse(const std::string& key, const std::string& reason) const;

 private:
  const nlohmann::json& value_of(const std::string& key);
  template <class T>
  T skip(const std::string& key, T otherwise) {
    seen_.insert(key);
    return otherwise;
  }

  const nlohmann::json& object_;
  std::string place_;
  std::set<std::string> seen_;
};

}  // namespace switchyard
