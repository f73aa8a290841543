// What a new configuration changes, key by key, and what of it can be applied without a restart.
// Pure values; it never decides how a change is applied.
// Invariant: diff(r, apply_live(r, d)) holds exactly the changes of diff(r, d) that are live.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace carpool::config {

struct KeyChange {
  std::string key;     // "pool.size", "databases[app].pool.size", "databases[app]", "databases"
  std::string before;  // as in the file, secrets masked; empty where an entry was added
  std::string after;   // likewise; empty where an entry was removed
  bool live = true;    // false: waits for a restart
  bool operator==(const KeyChange&) const = default;
};

// In the order of the reference page, then database by database. A database whose change is
// exactly that of the section it inherits from is not repeated; the order of the entries, which
// decides the first match, is the key "databases".
std::vector<KeyChange> diff(const Config& running, const Config& desired);

// `desired`, but with the keys that need a restart as in `running`.
Config apply_live(const Config& running, const Config& desired);

}  // namespace carpool::config
