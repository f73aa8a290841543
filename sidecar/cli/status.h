// `carpool status` and `carpool top`: what a running sidecar says of itself, for people, for
// programs (--json) and for monitoring (--check). A thin client of /status: it never talks to the
// loop or PostgreSQL.
//
// Exit codes: 0; with --check 0 ok, 1 warning (a pool is 80% in use), 2 critical (95%), as Nagios
// counts; 3 when the sidecar could not be asked, with or without --check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>

#include "cli/admin_client.h"

namespace carpool::cli {

enum class StatusForm : std::uint8_t { Table, Json, Check, Top };

struct StatusOptions {
  std::string admin = kDefaultAdmin;
  std::string database;  // empty: all
  StatusForm form = StatusForm::Table;
  bool detailed = false;      // Table and Json: every client and server too
  bool all = false;           // Top: clients that do nothing too
  std::size_t rows_max = 30;  // Top
  double watch_seconds = 0;   // 0: once
  bool clear_screen = false;
  std::size_t columns = 0;  // of the terminal; 0: there is none
  int rounds_max = 0;       // of watching; 0: until interrupted
};

int run_status(const StatusOptions& options, std::ostream& out, std::ostream& err);

}  // namespace carpool::cli
