#include "cli/completion.h"

#include <fmt/format.h>

#include <vector>

namespace carpool::cli {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

// What may follow a command: its own commands and its options.
std::vector<std::string> words_after(const CLI::App& command) {
  std::vector<std::string> out;
  for (const CLI::App* nested : commands_of(command)) out.push_back(nested->get_name());
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) out.push_back("--" + name);
  }
  return out;
}

// Files complete where a command takes one.
bool takes_file(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_type_name() == "FILE") return true;
  }
  return false;
}

// Help texts stand in single quotes of the shells.
std::string first_line(std::string text) {
  text.resize(std::min(text.size(), text.find('\n')));
  std::erase(text, '\'');
  return text;
}

void add_bash_case(const CLI::App& command, const std::string& path, std::string& out) {
  out += fmt::format("    '{}') words='{}'{} ;;\n", path, join(words_after(command)),
                     takes_file(command) ? "; files=1" : "");
  for (const CLI::App* nested : commands_of(command)) {
    add_bash_case(*nested, (path.empty() ? "" : path + " ") + nested->get_name(), out);
  }
}

// The path of commands so far decides; options and their values are skipped.
std::string bash_script(const CLI::App& app) {
  std::string cases;
  add_bash_case(app, "", cases);
  std::string names;
  for (const CLI::App* command : commands_of(app)) {
    for (const CLI::App* nested : commands_of(*command)) {
      names += fmt::format("|'{} {}'", command->get_name(), nested->get_name());
    }
    names += fmt::format("|'{}'", command->get_name());
  }
  return fmt::format(R"sh(# Completion of carpool for bash: source <(carpool completion bash)
_carpool() {{
  local word path='' words='' files='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{path:+$path }}${{COMP_WORDS[i]}}"
    case "$word" in
      {}) path="$word" ;;
    esac
  done
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
  if [[ -n "$files" && "${{COMP_WORDS[COMP_CWORD]}}" != -* ]]; then
    COMPREPLY+=($(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}"))
  fi
}}
complete -o filenames -F _carpool carpool
)sh",
                     names.substr(1), cases);
}

void add_fish_lines(const CLI::App& command, const std::string& condition, std::string& out) {
  for (const CLI::App* nested : commands_of(command)) {
    out += fmt::format("complete -c carpool {} -a {} -d '{}'\n", condition, nested->get_name(),
                       first_line(nested->get_description()));
  }
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      out += fmt::format("complete -c carpool {} -l {}{} -d '{}'\n", condition, name,
                         option->get_type_size() > 0 ? " -r" : "",
                         first_line(option->get_description()));
    }
  }
}

std::string fish_script(const CLI::App& app) {
  std::string out = "# Completion of carpool for fish: carpool completion fish | source\n";
  out += "complete -c carpool -f\n";
  add_fish_lines(app, "-n __fish_use_subcommand", out);
  for (const CLI::App* command : commands_of(app)) {
    add_fish_lines(*command,
                   fmt::format("-n '__fish_seen_subcommand_from {}'", command->get_name()), out);
    if (takes_file(*command)) {
      out += fmt::format("complete -c carpool -n '__fish_seen_subcommand_from {}' -F\n",
                         command->get_name());
    }
  }
  return out;
}

}  // namespace

std::string completion_script(const std::string& shell, const CLI::App& app) {
  if (shell == "bash") return bash_script(app);
  // zsh runs bash's completions.
  if (shell == "zsh") return "autoload -U +X bashcompinit && bashcompinit\n" + bash_script(app);
  if (shell == "fish") return fish_script(app);
  return "";
}

}  // namespace carpool::cli
