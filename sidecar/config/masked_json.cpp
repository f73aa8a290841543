// masked_json of load.h: the effective configuration as the table of keys sees it.
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "config/keys.h"
#include "config/load.h"
#include "config/text.h"

namespace carpool::config {
namespace {

using Json = nlohmann::ordered_json;

// What is in force where the file does not give the key: its default, unless the url decides.
Json unset_value(const Key& key, const Config& config) {
  if (!config.server.url.empty()) return nullptr;
  if (key.type == KeyType::Int) return std::stoll(key.unset);
  return key.unset;
}

Json shown(const Key& key, const Config& config) {
  Value value = key.get(config);
  if (!key.unset.empty() && (value == Value{std::string()} || value == Value{std::int64_t{0}})) {
    return unset_value(key, config);
  }
  if (key.type == KeyType::Int) return std::get<std::int64_t>(value);
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) return *list;
  return to_masked_text(key, value);
}

// Puts a value where its path says: "listen.tls.mode" into {"listen": {"tls": {"mode": ...}}}.
void put(Json& into, std::string_view path, Json value) {
  std::size_t dot = path.find('.');
  std::string name(path.substr(0, dot));
  if (dot == std::string_view::npos) {
    into[name] = std::move(value);
  } else {
    put(into[name], path.substr(dot + 1), std::move(value));
  }
}

}  // namespace

std::string masked_json(const Config& config) {
  Json json = Json::object();
  for (const Key& key : keys()) {
    // `databases` stands behind `pool`, as in the file.
    if (key.path.starts_with("log.") && !json.contains("databases")) {
      json["databases"] = Json::array();
    }
    put(json, key.path, shown(key, config));
  }
  for (const Database& database : config.databases) {
    Json entry = {{"name", database.name}};
    Config view = view_of(database.server, database.pool);
    for (const Key& key : keys()) {
      if (key.in_databases()) put(entry, key.path, shown(key, view));
    }
    json["databases"].push_back(std::move(entry));
  }
  // A value from the environment may be no UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace carpool::config
