// `carpool status`: what a running sidecar says of itself, for people, for programs (--json) and
// for monitoring (--check). A thin client of /status: it never talks to the loop or PostgreSQL.
//
// Exit codes: 0; with --check 0 ok, 1 warning (a pool is 80% in use), 2 critical (95%), as Nagios
// counts; 3 when the sidecar could not be asked, with or without --check.
#pragma once

#include <iosfwd>
#include <string>

#include "cli/admin_client.h"

namespace carpool::cli {

struct StatusOptions {
  std::string admin = kDefaultAdmin;
  std::string database;  // empty: all
  bool detailed = false;
  bool json = false;
  bool check = false;
  double watch_seconds = 0;  // 0: once
  bool clear_screen = false;
  int rounds_max = 0;  // of --watch; 0: until interrupted
};

int run_status(const StatusOptions& options, std::ostream& out, std::ostream& err);

}  // namespace carpool::cli
