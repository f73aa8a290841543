// Reading what another process, perhaps of another version, has answered: what is missing is
// empty. A value of another type throws nlohmann::json::exception, which read_status() turns into
// an Error.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace carpool::cli {

inline double number(const nlohmann::json& object, const char* key) {
  return object.value(key, 0.0);
}

inline std::string text(const nlohmann::json& object, const char* key) {
  return object.value(key, std::string());
}

inline bool flag(const nlohmann::json& object, const char* key) {
  return object.value(key, false);
}

inline const nlohmann::json& part(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::object();
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : kEmpty;
}

inline const nlohmann::json& list(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

}  // namespace carpool::cli
