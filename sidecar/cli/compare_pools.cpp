#include "cli/compare_pools.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/read_json.h"
#include "config/keys.h"
#include "config/moment.h"

namespace carpool::cli {
namespace {

using nlohmann::json;

// The names of one kind of pools of a database: those with options of their own, or for
// replication, have less of the entry's settings (Proxy::settings_of()).
struct Kind {
  std::string_view mark;  // in the pool's database, as /status says it
  std::vector<std::string_view> fixed;
};
const std::array<Kind, 3> kKinds = {{
    {"?replication=",
     {"pool.minIdle", "pool.mode", "pool.resetQuery", "pool.queryTimeout", "pool.statementTimeout",
      "pool.idleTransactionTimeout"}},
    {"?options=", {"pool.minIdle"}},
    {"", {}},
}};

const Kind& kind_of(const std::string& database) {
  return *std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind& kind) {
    return database.find(kind.mark) != std::string::npos;
  });
}

// Null where none is meant.
const json* entry_for(const json& config, const std::string& database) {
  for (const json& entry : list(config, "databases")) {
    const std::string name = text(entry, "name");
    if (name == database || name == "*") return &entry;
  }
  return nullptr;
}

const json& value_at(const json& entry, std::string_view path) {
  static const json kNull;
  const std::size_t dot = path.find('.');
  const json& section = part(entry, std::string(path.substr(0, dot)).c_str());
  const auto found = section.find(std::string(path.substr(dot + 1)));
  return found == section.end() ? kNull : *found;
}

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::vector<PoolChange> changes_of(const json* before, const json* after, const Kind& kind) {
  std::vector<PoolChange> changes;
  const auto name = [](const json* entry) {
    return entry == nullptr ? "" : dumped(entry->at("name"));
  };
  if (after == nullptr) {
    return {{"", "databases", name(before), "", "serves the clients that it has, and no others"}};
  }
  if (before == nullptr) {
    return {{"", "databases", "", name(after), "takes clients again"}};
  }
  if (name(before) != name(after)) {
    changes.push_back({"", "databases", name(before), name(after), "goes by another entry"});
  }
  for (const config::Key& key : config::keys()) {
    const bool fixed =
        std::find(kind.fixed.begin(), kind.fixed.end(), key.path) != kind.fixed.end();
    if (!key.in_databases() || fixed) continue;
    const json& old_value = value_at(*before, key.path);
    const json& new_value = value_at(*after, key.path);
    if (old_value == new_value) continue;
    changes.push_back({"", key.path, dumped(old_value), dumped(new_value),
                       std::string(config::sentence_of(config::moment_of(key)))});
  }
  return changes;
}

}  // namespace

std::vector<PoolChange> pool_changes(const std::string& running, const std::string& desired,
                                     const std::vector<PoolName>& pools) {
  const json before = json::parse(running, nullptr, false);
  const json after = json::parse(desired, nullptr, false);
  std::map<std::string, std::string> users_of;
  for (const auto& [database, user] : pools) {
    std::string& users = users_of[database];
    users += (users.empty() ? "" : ", ") + user;
  }
  std::vector<PoolChange> found;
  for (const auto& [database, users] : users_of) {
    const Kind& kind = kind_of(database);
    const std::string name =
        kind.mark.empty() ? database : database.substr(0, database.find(kind.mark));
    for (PoolChange& change : changes_of(entry_for(before, name), entry_for(after, name), kind)) {
      change.pools = fmt::format("{} ({})", database, users);
      found.push_back(std::move(change));
    }
  }
  return found;
}

}  // namespace carpool::cli
