// The command line of everything but `run`: options, help texts and the calls behind them.
//
//   ask a running sidecar: status  top  wait  drain  quit  pause  resume  reconnect
//   need none: check  convert  config explain|schema|reference  inject  uninject  completion
//   version
//
// What was printed has been written when a command ends with 0: one rule, in run_command_line(),
// for all of them.
//
// Invariant: every --help fits a screen of 24 lines and ends with an example.
#pragma once

#include <CLI/App.hpp>
#include <cstddef>
#include <iosfwd>
#include <string>

#include "config/expand.h"

namespace carpool::cli {

// Where commands write, and what they know of the binary.
struct Commands {
  std::string version;
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool terminal = false;    // `out` is a terminal that --watch may clear
  std::size_t columns = 0;  // and so wide; 0: not known
  int exit_code = 0;        // of the command that ran
  config::Environment environment = config::process_environment();
};

// `commands` must outlive `app.parse`, which runs the command that was named.
void add_commands(CLI::App& app, Commands& commands);

inline constexpr int kExitNotWritten = 74;  // sysexits: an error of input or output

// Parses and runs. Usage errors are exit code 2, --help and --version 0, else the command's own;
// and never 0, where `out` could not be written to its end.
int run_command_line(CLI::App& app, Commands& commands, int argc, const char* const* argv);

}  // namespace carpool::cli
