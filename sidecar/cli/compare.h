// `carpool check FILE --diff`: a valid file against the configuration that runs: key by key, what
// would apply live and what would wait for a restart, and then what of it would change for each
// pool that exists (compare_pools.h). It changes nothing. Secrets are masked on both sides, so that
// a changed password is not seen. Where the sidecar would reject the change, since what comes live
// does not go together with what waits for a restart, it says so, as the sidecar would.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "cli/admin_client.h"
#include "config/load.h"

namespace carpool::cli {

struct Difference {
  // "pool.size", "databases[app].pool.size", "databases[app]", "databases" (their order)
  std::string key;
  std::string before;  // as JSON; empty: not there
  std::string after;
  bool live = true;
  bool operator==(const Difference&) const = default;
};

// Both are what config::masked_json() makes; text that is not JSON is an empty configuration.
std::vector<Difference> differences(const std::string& running, const std::string& desired);

// The file must be valid. Exit code 0, or 3 when the sidecar could not be asked.
int run_compare(const std::string& file, const config::Environment& env, const std::string& admin,
                std::ostream& out, std::ostream& err);

}  // namespace carpool::cli
