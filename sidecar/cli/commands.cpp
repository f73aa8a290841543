#include "cli/commands.h"

#include <fmt/format.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "cli/check.h"
#include "cli/compare.h"
#include "cli/completion.h"
#include "cli/convert.h"
#include "cli/drain.h"
#include "cli/inject.h"
#include "cli/status.h"
#include "cli/wait.h"
#include "config/keys.h"
#include "config/reference.h"
#include "config/text.h"

namespace carpool::cli {
namespace {

constexpr int kExitUsage = 2;

// Where the sidecar's read-only port is. --url is what charts written for other sidecars say.
void add_admin(CLI::App& command, std::string& admin) {
  command.add_option("--admin,--url", admin, "The sidecar's address")
      ->envname("CARPOOL_ADMIN")
      ->type_name("HOST:PORT")
      ->capture_default_str();
}

void add_watch(CLI::App& command, double& seconds) {
  command.add_option("--watch", seconds, "Again and again, every 2 seconds or so many")
      ->expected(0, 1)
      ->default_str("2")
      ->type_name("[SECONDS]")
      ->check(CLI::Range(0.1, 86400.0));
}

void add_status(CLI::App& app, Commands& commands) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App* command = app.add_subcommand("status", "Every pool: servers, clients, waits, times");
  add_admin(*command, options->admin);
  command->add_option("--database", options->database, "Only the pools of this database");
  command->add_flag("--detailed", options->detailed, "Every client and server too");
  CLI::Option* json = command->add_flag_callback(
      "--json", [options] { options->form = StatusForm::Json; },
      "As JSON (docs/status.schema.json)");
  command
      ->add_flag_callback(
          "--check", [options] { options->form = StatusForm::Check; },
          "One line, and as exit code 0 ok, 1 from 80% in use,\n2 from 95%, 3 unreachable")
      ->excludes(json);
  add_watch(*command, options->watch_seconds);
  command->footer(
      "Exit code without --check 0: shown, 3: no sidecar or no such database.\n"
      "Example: carpool status --watch 5 --database app");
  command->callback([options, &commands] {
    options->clear_screen =
        commands.terminal && options->watch_seconds > 0 && options->form == StatusForm::Table;
    options->columns = commands.columns;
    commands.exit_code = run_status(*options, commands.out, commands.err);
  });
}

void add_top(CLI::App& app, Commands& commands) {
  auto options = std::make_shared<StatusOptions>();
  options->form = StatusForm::Top;
  CLI::App* command = app.add_subcommand("top", "Who holds a server or waits, longest first");
  add_admin(*command, options->admin);
  command->add_option("--database", options->database, "Only the pools of this database");
  command->add_flag("--all", options->all, "Clients that do nothing too");
  command->add_option("--rows", options->rows_max, "At most so many")->capture_default_str();
  add_watch(*command, options->watch_seconds);
  command->footer("Example: carpool top --watch");
  command->callback([options, &commands] {
    options->clear_screen = commands.terminal && options->watch_seconds > 0;
    options->columns = commands.columns;
    commands.exit_code = run_status(*options, commands.out, commands.err);
  });
}

void add_wait(CLI::App& app, Commands& commands) {
  auto options = std::make_shared<WaitOptions>();
  CLI::App* command = app.add_subcommand("wait", "Block until the sidecar has started");
  add_admin(*command, options->admin);
  command->add_flag("--ready", options->ready, "Until it is ready for clients (/readyz)");
  command
      ->add_option_function<std::string>(
          "--timeout",
          [options](const std::string& text) {
            const bool bare = text.find_first_not_of("0123456789") == std::string::npos;
            auto timeout = config::parse_duration(bare ? text + "s" : text, text);
            if (!timeout) throw CLI::ValidationError("--timeout", timeout.error().message);
            options->timeout_us = *timeout;
          },
          "Give up after this, with exit code 1")
      ->type_name("DURATION")
      ->default_str("30s");
  command->footer("Example: carpool wait --timeout 60s --ready");
  command->callback(
      [options, &commands] { commands.exit_code = run_wait(*options, commands.err); });
}

void add_control(CLI::App& app, Commands& commands, const std::string& name,
                 const std::string& call, const std::string& help, bool of_one_database) {
  auto options = std::make_shared<ControlOptions>();
  options->call = call;
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("--control", options->control, "The sidecar's control port")
      ->envname("CARPOOL_CONTROL")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  if (of_one_database) {
    command->add_option("--database", options->database, "Only the pools of this database");
  }
  command->footer("Example: carpool " + name + (of_one_database ? " --database app" : ""));
  command->callback([options, &commands] {
    commands.exit_code = run_control(*options, commands.out, commands.err);
  });
}

void add_check(CLI::App& app, Commands& commands) {
  struct Options {
    std::string file;
    std::string admin = kDefaultAdmin;
    bool diff = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("check", "Every error of a configuration file");
  command->add_option("file", options->file, "The file")->required()->type_name("FILE");
  command->add_flag("--diff", options->diff,
                    "What it would change in the sidecar that runs,\nlive or by a restart");
  add_admin(*command, options->admin);
  command->footer(
      "Exit code 0: valid, 66: unreadable, 78: not valid; --diff 3: unreachable.\n"
      "Example: carpool check carpool.yaml --diff");
  command->callback([options, &commands] {
    commands.exit_code = run_check(options->file, commands.environment, commands.out, commands.err);
    if (commands.exit_code != kExitOk || !options->diff) return;
    commands.exit_code = run_compare(options->file, commands.environment, options->admin,
                                     commands.out, commands.err);
  });
}

void add_convert(CLI::App& app, Commands& commands) {
  struct Options {
    std::string ini;
    std::string userlist;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "PgBouncer's configuration as Carpool's");
  command->add_option("ini", options->ini, "PgBouncer's")->required()->type_name("pgbouncer.ini");
  command->add_option("userlist", options->userlist, "Its users")->type_name("userlist.txt");
  command->footer(
      "Exit code 0: converted, 66: unreadable, 78: not understood.\n"
      "Example: carpool convert pgbouncer.ini userlist.txt > carpool.yaml");
  command->callback([options, &commands] {
    commands.exit_code = run_convert(options->ini, options->userlist, commands.out, commands.err);
  });
}

void add_completion(CLI::App& app, Commands& commands) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "A completion script for the shell");
  command->add_option("shell", *shell, "Which one")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
  command->footer("Example: source <(carpool completion bash)");
  command->callback([shell, &app, &commands] { commands.out << completion_script(*shell, app); });
}

void add_inject(CLI::App& app, Commands& commands, bool remove) {
  auto options = std::make_shared<InjectOptions>();
  options->remove = remove;
  CLI::App* command = app.add_subcommand(remove ? "uninject" : "inject",
                                         remove ? "Manifests in, the same without the sidecar out"
                                                : "Manifests in, the same with the sidecar out");
  if (!remove) {
    command
        ->add_option("--config-map", options->config_map,
                     "Where carpool.yaml is; else what the label\ncarpool/inject names")
        ->default_str("carpool");
    command->add_option("--image", options->image, "Else the image of this version");
    command->add_flag("--classic", options->classic, "For Kubernetes before 1.29");
    command->add_flag("--point", options->point,
                      "DATABASE_URL, else PGHOST and its like, become the\nsidecar's; the "
                      "application's lead to the sidecar");
    command
        ->add_option("--url-like", options->url_like,
                     "With --point: the form of a DATABASE_URL from a\nSecret that is not in the "
                     "stream")
        ->type_name("URL");
  }
  command->footer(remove ? "Example: kubectl get deploy web -o yaml | carpool uninject"
                         : "Exit code 0: written, 65: not a manifest, or one that cannot take it\n"
                           "Example: carpool inject --point < app.yaml | kubectl apply -f -");
  command->callback([options, &commands] {
    commands.exit_code = run_inject(*options, commands.in, commands.out, commands.err);
  });
}

// The key whose path, or whose last part, is nearest to what was asked for.
std::string nearest_key(const std::string& asked) {
  std::vector<std::string> paths;
  std::vector<std::string> names;
  for (const config::Key& key : config::keys()) {
    paths.push_back(key.path);
    names.push_back(key.path.substr(key.path.rfind('.') + 1));
  }
  const bool is_path = asked.find('.') != std::string::npos;
  return config::nearest_name(asked, is_path ? paths : names);
}

void add_config(CLI::App& app, Commands& commands) {
  CLI::App* command = app.add_subcommand("config", "What the configuration's keys mean");
  command->require_subcommand(1);
  command->footer("Example: carpool config explain pool.size");

  auto key = std::make_shared<std::string>();
  CLI::App* explain = command->add_subcommand("explain", "One key or section, in a few lines");
  explain->add_option("key", *key, "As in pool.size, size or pool")->required()->type_name("KEY");
  explain->footer("Example: carpool config explain pool.acquireTimeout");
  explain->callback([key, &commands] {
    const std::optional<std::string> text = config::explain(*key);
    if (text) {
      commands.out << *text;
      if (!text->ends_with('\n')) commands.out << '\n';
      return;
    }
    const std::string meant = nearest_key(*key);
    commands.err << "carpool config explain: there is no key `" << *key << "`"
                 << (meant.empty() ? "" : "; did you mean `" + meant + "`?") << "\n";
    commands.exit_code = kExitFailed;
  });

  CLI::App* schema = command->add_subcommand("schema", "The JSON schema of the file");
  schema->footer("Example: carpool config schema > carpool.schema.json");
  schema->callback([&commands] { commands.out << config::json_schema() << '\n'; });
  CLI::App* reference = command->add_subcommand("reference", "Every key, as Markdown");
  reference->footer("Example: carpool config reference > configuration.md");
  reference->callback([&commands] { commands.out << config::reference_markdown(); });
}

// What is wrong where a command should stand: the whole help for one that is missing, the nearest
// name for one that there is not. Empty: the mistake is elsewhere.
std::string wrong_command(const CLI::App& app, int argc, const char* const* argv) {
  const CLI::App* at = &app;
  for (int i = 1;; i++) {
    const std::vector<const CLI::App*> nested = at->get_subcommands({});
    if (nested.empty()) return "";
    if (i >= argc) return at->help();
    const std::string word = argv[i];
    if (word.starts_with('-')) return "";
    std::vector<std::string> names;
    names.reserve(nested.size());
    for (const CLI::App* command : nested) names.push_back(command->get_name());
    const auto found = std::find(names.begin(), names.end(), word);
    if (found == names.end()) {
      const std::string meant = config::nearest_name(word, names);
      return fmt::format(
          "carpool: there is no command `{}`{}\nRun carpool --help for all of them.\n", word,
          meant.empty() ? "" : "; did you mean `" + meant + "`?");
    }
    at = nested[static_cast<std::size_t>(found - names.begin())];
  }
}

}  // namespace

void add_commands(CLI::App& app, Commands& commands) {
  add_check(app, commands);
  add_convert(app, commands);
  add_status(app, commands);
  add_top(app, commands);
  add_wait(app, commands);
  add_control(app, commands, "drain", "drain", "Let clients finish, then exit", false);
  add_control(app, commands, "quit", "quitquitquit", "Exit, for the end of a Job", false);
  add_control(app, commands, "pause", "pause", "Lend no server until resumed", true);
  add_control(app, commands, "resume", "resume", "Lend servers again", true);
  add_control(app, commands, "reconnect", "reconnect", "Replace every server, as leases end", true);
  add_config(app, commands);
  add_inject(app, commands, false);
  add_inject(app, commands, true);
  add_completion(app, commands);
  CLI::App* version = app.add_subcommand("version", "Print the version");
  version->footer("Example: carpool version");
  version->callback([&commands] { commands.out << "carpool " << commands.version << '\n'; });
}

namespace {

int parse_and_run(CLI::App& app, Commands& commands, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return commands.exit_code;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error, commands.out, commands.err);  // --help
    if (const std::string why = wrong_command(app, argc, argv); !why.empty()) {
      commands.err << why;
    } else {
      app.exit(error, commands.out, commands.err);
    }
    return kExitUsage;
  }
}

}  // namespace

int run_command_line(CLI::App& app, Commands& commands, int argc, const char* const* argv) {
  const int code = parse_and_run(app, commands, argc, argv);
  // A full disk is seen when the last of it is written.
  if (commands.out.flush()) return code;
  commands.err << "carpool: standard output could not be written to its end\n";
  return code == kExitOk ? kExitNotWritten : code;
}

}  // namespace carpool::cli
