// `carpool drain` and its sisters: one POST to the control port each. Exit code 0, 1 when the
// sidecar refuses, 3 when it cannot be asked.
#pragma once

#include <iosfwd>
#include <string>

#include "cli/admin_client.h"

namespace carpool::cli {

struct ControlOptions {
  std::string control = kDefaultControl;
  std::string call = "drain";  // drain | quitquitquit | pause | resume | reconnect
  std::string database;        // empty: all
};

int run_control(const ControlOptions& options, std::ostream& out, std::ostream& err);

}  // namespace carpool::cli
