// json_schema of reference.h: what the loader takes, as far as a schema can say it. It may take
// more than the loader, never less, but for one thing: a text has to be a string, since Helm would
// turn the number 1000000 into 1e+06 on the way. Patterns are for RE2, which Helm uses: no
// look-ahead.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "config/keys.h"
#include "config/reference.h"
#include "config/text.h"

namespace carpool::config {
namespace {

using Json = nlohmann::ordered_json;

// A variable anywhere in the text.
constexpr const char* kVariable = R"(\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\})";
constexpr const char* kDuration =
    "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?$";
constexpr const char* kZeroDuration = "^(0+(d|h|m|s|ms|us))+$";
// See is_loopback in validate.cpp.
constexpr const char* kTrusted = R"(^$|\$\{|^127\.|^[0:]*:0*1$|^[0:]*:[Ff]{4}:)";

Json variable() {
  return {{"type", "string"}, {"pattern", kVariable}};
}

Json any_of(Json first, Json second) {
  return {{"anyOf", {std::move(first), std::move(second)}}};
}

Json choice_schema(const Key& key) {
  Json names = key.values;
  for (const std::string& name : key.values) {
    // A plain `off` reaches Helm as false.
    if (name == "off") names.push_back(false);
  }
  if (!key.unset.empty()) names.push_back("");
  names.push_back(nullptr);
  return any_of({{"enum", std::move(names)}}, variable());
}

Json number_schema(const Key& key) {
  std::int64_t least = key.zero.empty() ? key.min : 0;
  Json number = {{"type", {"integer", "null"}}, {"minimum", least}, {"maximum", key.max}};
  Json digits = {{"type", "string"}, {"pattern", "^[0-9]+$"}};
  return {{"anyOf", {std::move(number), std::move(digits), variable()}}};
}

Json duration_schema(const Key& key) {
  Json time = {{"type", {"string", "null"}}, {"pattern", kDuration}, {"minLength", 2}};
  bool never_zero = key.zero.empty() && key.min > 0;
  if (never_zero) time["not"] = {{"type", "string"}, {"pattern", kZeroDuration}};
  return any_of(std::move(time), variable());
}

Json text_schema(const Key& key) {
  Json text = {{"type", {"string", "null"}}, {"maxLength", kStringBytes_max}};
  if (key.pattern.empty()) return text;
  text["pattern"] = key.pattern;
  return any_of(std::move(text), variable());
}

// Null is "not given" everywhere.
Json schema_of(const Key& key) {
  switch (key.type) {
    case KeyType::String:
      return text_schema(key);
    case KeyType::StringList:
      return {{"type", {"array", "null"}},
              {"maxItems", kListEntries_max},
              {"items", {{"type", "string"}, {"maxLength", kStringBytes_max}}}};
    case KeyType::Enum:
      return choice_schema(key);
    case KeyType::Int:
      return number_schema(key);
    case KeyType::Duration:
      return duration_schema(key);
  }
  return nullptr;
}

Json default_of(const Key& key) {
  Value initial = key.get(Config{});
  if (const auto* list = std::get_if<std::vector<std::string>>(&initial)) return *list;
  if (key.type == KeyType::Int) return std::stoll(default_text(key));
  return default_text(key);
}

Json described(const Key& key) {
  Json schema = schema_of(key);
  std::string description = key.meaning;
  if (std::string limits = limits_text(key); !limits.empty()) {
    description += fmt::format(" {}.", limits);
  }
  schema["description"] = description + fmt::format(" Applies {}.", applies_text(key));
  return schema;
}

Json object_schema(std::string description) {
  return {{"type", {"object", "null"}},
          {"description", std::move(description)},
          {"additionalProperties", false},
          {"properties", Json::object()}};
}

// The place of a path's schema, with the sections on the way made.
Json& schema_place(Json& object, std::string_view path) {
  std::size_t dot = path.find('.');
  std::string name(path.substr(0, dot));
  Json& properties = object["properties"];
  if (dot == std::string_view::npos) return properties[name];
  if (!properties.contains(name)) properties[name] = object_schema("");
  return schema_place(properties[name], path.substr(dot + 1));
}

// An object in which `name` is given and is as `value` says.
Json where(const char* name, Json value) {
  return {{"type", "object"}, {"required", {name}}, {"properties", {{name, std::move(value)}}}};
}

// The impossible pairs of validate.cpp that a schema can express.
void add_pairs(Json& schema) {
  Json& properties = schema["properties"];
  const Json some_text = {{"type", "string"}, {"minLength", 1}};
  Json& auth = properties["auth"];
  auth["if"] = where("mode", {{"const", "scram-sha-256"}});
  auth["then"] = where("usersFile", some_text);
  Json& tls = properties["listen"]["properties"]["tls"];
  tls["if"] = where("mode", {{"enum", {"allow", "require"}}});
  tls["then"] = {{"allOf", {where("certFile", some_text), where("keyFile", some_text)}}};
  // `auth.mode: trust`, the default, on an address that is not loopback.
  Json open = {{"type", "string"}, {"not", {{"pattern", kTrusted}}}};
  Json signs_in = {{"type", "string"}, {"not", {{"const", "trust"}}}};
  schema["if"] = where("listen", where("address", std::move(open)));
  schema["then"] = where("auth", where("mode", std::move(signs_in)));
}

}  // namespace

std::string json_schema() {
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "Carpool configuration"},
                 {"type", {"object", "null"}},
                 {"additionalProperties", false},
                 {"properties", Json::object()}};
  Json entry = object_schema("One database that clients may ask for.");
  entry["type"] = "object";
  entry["required"] = {"name"};
  entry["properties"]["name"] = {{"type", "string"},
                                 {"minLength", 1},
                                 {"maxLength", 255},
                                 {"description", "The name that clients ask for, or \"*\"."}};
  for (const Section& section : sections()) {
    if (section.name == "log") schema["properties"]["databases"] = nullptr;
    schema["properties"][section.name] = object_schema(section.about);
  }
  for (const Key& key : keys()) {
    Json& place = schema_place(schema, key.path);
    place = described(key);
    place["default"] = default_of(key);
    if (key.in_databases()) schema_place(entry, key.path) = described(key);
  }
  schema["properties"]["listen"]["properties"]["tls"]["description"] = "TLS for clients.";
  entry["properties"]["server"]["description"] = "What is different from `server` above.";
  entry["properties"]["pool"]["description"] = "What is different from `pool` above.";
  schema["properties"]["databases"] = {
      {"type", {"array", "null"}},
      {"description", "The first entry whose name matches is used; without any, one \"*\"."},
      {"maxItems", kDatabases_max},
      {"items", std::move(entry)}};
  add_pairs(schema);
  return schema.dump(2) + "\n";
}

}  // namespace carpool::config
