// What a new configuration changes, key by key, and what of it can be applied without a restart.
// Pure values; it never decides how a change is applied.
// Invariant: diff(r, *in_force(r, d).config) holds exactly the changes of diff(r, d) that are live.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/keys.h"
#include "config/libpq.h"
#include "config/problem.h"

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

// Which keys cannot come into force now: those that need a restart; or, beside them, those for
// which files have to be read first (see needs_credentials()), and, where these say who may come
// in, those that say to what: databases and servers, the console, addresses.
enum class Late : std::uint8_t { Restart, Credentials };

// What comes into force of a change: `desired`, but with the keys that cannot come now as in
// `running`. It has been validated by the rules of a file, so that what is in force is always
// something that would have been accepted at start; each problem names the key that waits, and the
// changed key that cannot come without it. `libpq`: the one that reads the urls.
//   config.has_value() == problems.empty()
struct InForce {
  std::optional<Config> config;
  std::vector<Problem> problems;
};
InForce in_force(const Config& running, const Config& desired, const Libpq& libpq,
                 Late late = Late::Restart);

// Whether the key says who may come in and by which files: auth.* and listen.tls.*.
bool needs_credentials(const Key& key);

}  // namespace carpool::config
