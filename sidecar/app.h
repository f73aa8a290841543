// App: the composition root of `carpool run`. It builds the parts in order, wires them and takes
// them down again; nothing else wires parts together. Changes of the configuration are the
// Reloader's, the end is the Drainer's.
//
//   watch the directory -> read the configuration -> admin -> run: read the credentials -> listen
//     -> drain -> exit code
#pragma once

#include <string>

#include "config/expand.h"

namespace carpool {

struct AppOptions {
  std::string config_file;         // empty: the environment is enough
  bool config_file_given = false;  // by name: then it must be there
  std::string version;
  config::Environment environment = config::process_environment();
};

// Runs until it is told to end. 0 clean, 1 failed, 3 transactions were cut, 78 bad configuration.
int run_app(const AppOptions& options);

}  // namespace carpool
