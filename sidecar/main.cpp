// The command line. `run` is the sidecar; everything else is a thin client of a running one or of
// the configuration (cli/commands.h). Exit codes of `run`: 0 clean, 1 failed, 2 usage, 3 cut
// clients, 78 bad configuration.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <exception>
#include <iostream>
#include <istream>
#include <string>

#include "app.h"
#include "cli/commands.h"
#include "cli/input.h"
#include "proxy/connector_environment.h"

namespace {

constexpr const char* kDefaultConfig = "/etc/carpool/carpool.yaml";

bool exists(const char* path) {
  struct stat ignored {};
  return stat(path, &ignored) == 0;
}

// Whoever starts this may have closed the standard streams. Their numbers must not become a
// socket's: what is printed would go to a client, and libuv aborts rather than close one of them.
// What takes their place can be neither read nor written, so that a command says so as on a full
// disk.
void fill_standard_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) continue;
    // The lowest number that is free is the one that is missing (open(2)).
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(1);
  }
}

// 0: standard output is no terminal, or one that does not say.
std::size_t terminal_columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void add_run(CLI::App& app, carpool::cli::Commands& commands, carpool::AppOptions& options) {
  CLI::App* run = app.add_subcommand("run", "Run the sidecar until SIGTERM");
  run->add_option("--config", options.config_file,
                  std::string("Else ") + kDefaultConfig +
                      " where it exists,\nelse the environment alone (DATABASE_URL, ...)")
      ->envname("CARPOOL_CONFIG")
      ->type_name("FILE");
  run->footer(
      "Exit code 0: clean, 1: failed, 3: clients were cut, 78: bad configuration.\n"
      "Example: carpool run --config carpool.yaml");
  run->callback([&commands, &options] {
    options.config_file_given = !options.config_file.empty();
    if (!options.config_file_given && exists(kDefaultConfig)) options.config_file = kDefaultConfig;
    commands.exit_code = carpool::run_app(options);
  });
}

}  // namespace

int main(int argc, char** argv) {
  fill_standard_streams();
  try {
    CLI::App app{"Carpool: a PostgreSQL connection pooler that rides in your pod", "carpool"};
    app.require_subcommand(1);
    app.footer("Example: DATABASE_URL=postgresql://app@db/app carpool run");
    carpool::cli::DescriptorInput input(STDIN_FILENO);
    std::istream in(&input);
    carpool::cli::Commands commands{
        CARPOOL_VERSION, in, std::cout, std::cerr, isatty(STDOUT_FILENO) == 1, terminal_columns()};
    carpool::AppOptions options;
    options.version = CARPOOL_VERSION;
    options.environment = commands.environment = carpool::proxy::take_environment();
    add_run(app, commands, options);
    carpool::cli::add_commands(app, commands);
    return carpool::cli::run_command_line(app, commands, argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "carpool: " << error.what() << "\n";
    return 1;
  }
}
