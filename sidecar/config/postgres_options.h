// The command line of a backend, as `options` and PGOPTIONS bring it: `-c name=value` and its kin,
// taken apart as PostgreSQL takes it apart. Pure functions.
// Invariant: no message holds a value.
//
// Source: PostgreSQL manual, "postgres", and pg_split_opts() and process_postgres_switches() of
// the server.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/postgres_settings.h"

namespace carpool::config {

struct OptionsVerdict {
  std::string error;                  // why no server can be opened with them; empty: none
  std::vector<std::string> warnings;  // likewise
};
OptionsVerdict check_options(std::string_view options);

// The words of a command line: at white space, and a backslash takes what is behind it as it is.
std::vector<std::string> split_options(std::string_view options);

// A value so that it is one word of a command line, or the end of one.
std::string escaped_option(std::string_view value);

}  // namespace carpool::config
