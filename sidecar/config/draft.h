// A configuration in the making: the values so far, which keys gave them and where, and what was
// found wrong. Shared by the stages of loading, and by nothing else.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/libpq.h"
#include "config/problem.h"

namespace carpool::config {

struct Draft {
  Libpq libpq;  // that will read the urls
  Config config;
  std::vector<std::string> database_paths;  // "databases[2]", for each of config.databases
  std::map<std::string, Place> given;  // by path, "databases[1].pool.size" and "databases[1]" too
  std::set<std::string> bad;           // the paths whose value could not be read
  std::vector<Problem> problems;
  std::vector<Problem> warnings;

  bool is_given(const std::string& path) const { return given.contains(path); }
  Place place_of(const std::string& path) const {
    auto found = given.find(path);
    return found == given.end() ? Place{} : found->second;
  }
};

// Values that come from no file, to be judged as those of a file are: without places, and with
// everything given that an entry of `databases` does not inherit.
Draft draft_of(const Config& config, const Libpq& libpq);

}  // namespace carpool::config
