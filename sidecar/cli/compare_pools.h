// What a file would change for each pool that exists. A pool's settings are those of the first
// entry of `databases` whose name is the pool's database, or "*": so an entry that comes, goes or
// changes its place changes pools whose own entry stays as it is.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace carpool::cli {

struct PoolChange {
  std::string pools;   // "app (alice, bob)"
  std::string key;     // "pool.size"; "databases": by which entry
  std::string before;  // as JSON
  std::string after;
  std::string effect;  // "applies live", "serves the clients that it has, and no others"
  bool operator==(const PoolChange&) const = default;
};

// Database, as in /status, and user.
using PoolName = std::pair<std::string, std::string>;

// The configurations are what config::masked_json() makes. In the order of the databases' names.
std::vector<PoolChange> pool_changes(const std::string& running, const std::string& desired,
                                     const std::vector<PoolName>& pools);

}  // namespace carpool::cli
