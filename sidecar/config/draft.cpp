#include "config/draft.h"

#include <fmt/format.h>

#include "config/keys.h"

namespace carpool::config {

Draft draft_of(const Config& config, const Libpq& libpq) {
  Draft draft;
  draft.libpq = libpq;
  draft.config = config;
  for (const Key& key : keys()) draft.given[key.path] = {};
  for (std::size_t i = 0; i < config.databases.size(); i++) {
    const Database& database = config.databases[i];
    const std::string entry = fmt::format("databases[{}]", i);
    draft.database_paths.push_back(entry);
    draft.given[entry] = {};
    const Config own = view_of(database.server, database.pool);
    for (const Key& key : keys()) {
      if (!key.in_databases() || key.get(own) == key.get(config)) continue;  // inherited
      draft.given[entry + "." + key.path] = {};
    }
  }
  return draft;
}

}  // namespace carpool::config
