// `carpool wait`: blocks until the sidecar has started (or, with --ready, is ready), for the
// postStart hook of a classic sidecar and for scripts. Exit code 0, or 1 at the timeout.
#pragma once

#include <iosfwd>
#include <string>

#include "base/units.h"
#include "cli/admin_client.h"

namespace carpool::cli {

struct WaitOptions {
  std::string admin = kDefaultAdmin;
  Micros timeout_us = 30 * kMicrosPerSecond;
  Micros pause_us = 100 * kMicrosPerMilli;  // between two questions
  bool ready = false;                       // /readyz instead of /startupz
};

int run_wait(const WaitOptions& options, std::ostream& err);

}  // namespace carpool::cli
