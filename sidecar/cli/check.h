// `carpool check FILE`: every problem of a configuration file, with the line it stands in and a
// caret below the place. It reads the file and the environment and touches nothing else: neither
// a server nor the files that the configuration names.
#pragma once

#include <iosfwd>
#include <string>

#include "config/load.h"

namespace carpool::cli {

inline constexpr int kExitValid = 0;
inline constexpr int kExitNoInput = 66;    // sysexits: the file cannot be read
inline constexpr int kExitBadConfig = 78;  // sysexits: the configuration is wrong

// Problems and warnings go to `err`, the summary of a valid file to `out`. Returns the exit code.
int run_check(const std::string& file, const config::Environment& env, std::ostream& out,
              std::ostream& err);

}  // namespace carpool::cli
