#include "proxy/console_command.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>
#include <vector>

namespace carpool::proxy {
namespace {

using Verb = ConsoleCommand::Verb;

struct Word {
  std::string text;
  bool quoted = false;
};

constexpr std::array<std::pair<std::string_view, Verb>, 13> kVerbs = {{
    {"SHOW", Verb::Show},
    {"PAUSE", Verb::Pause},
    {"RESUME", Verb::Resume},
    {"RECONNECT", Verb::Reconnect},
    {"KILL", Verb::Kill},
    {"RELOAD", Verb::Reload},
    {"SET", Verb::Unsupported},
    {"SUSPEND", Verb::Unsupported},
    {"SHUTDOWN", Verb::Unsupported},
    {"DISABLE", Verb::Unsupported},
    {"ENABLE", Verb::Unsupported},
    {"WAIT_CLOSE", Verb::Unsupported},
    {"KILL_CLIENT", Verb::Unsupported},
}};

bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

std::string folded(std::string text, int (*fold)(int)) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [fold](unsigned char c) { return static_cast<char>(fold(c)); });
  return text;
}

// The words and a semicolon at the end; nullopt where it is not of that form. A database's name is
// taken as it is written: names of Carpool's configuration are not folded.
std::optional<std::vector<Word>> words_of(std::string_view text) {
  std::vector<Word> words;
  bool ended = false;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (is_space(c)) {
      at++;
    } else if (text.substr(at, 2) == "--") {
      at = std::min(text.find('\n', at), text.size());
    } else if (c == ';') {
      ended = true;
      at++;
    } else if (ended) {
      return std::nullopt;
    } else if (c == '"' || c == '\'') {
      Word word{"", true};
      for (at++;; at++) {
        if (at >= text.size()) return std::nullopt;
        if (text[at] == c && (at + 1 >= text.size() || text[at + 1] != c)) break;
        if (text[at] == c) at++;
        word.text += text[at];
      }
      at++;
      words.push_back(std::move(word));
    } else {
      Word word;
      while (at < text.size() && !is_space(text[at]) && text[at] != ';') word.text += text[at++];
      words.push_back(std::move(word));
    }
  }
  return words;
}

}  // namespace

ConsoleCommand parse_console_command(std::string_view text) {
  const std::optional<std::vector<Word>> words = words_of(text);
  if (!words) return {};
  if (words->empty()) return {Verb::Empty, "", ""};
  const std::string name = folded(words->front().text, std::toupper);
  const auto* const known = std::find_if(kVerbs.begin(), kVerbs.end(),
                                         [&](const auto& verb) { return verb.first == name; });
  if (known == kVerbs.end() || words->front().quoted) return {};
  if (known->second == Verb::Unsupported) return {Verb::Unsupported, name, name};
  const std::string argument = words->size() == 2 ? words->back().text : "";
  switch (known->second) {
    case Verb::Show:
      // A bare SHOW is PgBouncer's SHOW HELP.
      if (words->size() == 1) return {Verb::Show, "help", name};
      return words->size() == 2 ? ConsoleCommand{Verb::Show, folded(argument, std::tolower), name}
                                : ConsoleCommand{};
    case Verb::Reload:
      return words->size() == 1 ? ConsoleCommand{Verb::Reload, "", name} : ConsoleCommand{};
    default:
      return words->size() <= 2 ? ConsoleCommand{known->second, argument, name} : ConsoleCommand{};
  }
}

}  // namespace carpool::proxy
