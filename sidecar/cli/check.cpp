#include "cli/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <string_view>
#include <vector>

#include "config/keys.h"

namespace carpool::cli {
namespace {

constexpr std::size_t kShownBytes_max = 200;  // of a source line

std::string_view line_at(std::string_view text, int line) {
  for (int i = 1; i < line; i++) {
    std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return "";
    text.remove_prefix(end + 1);
  }
  std::string_view found = text.substr(0, text.find('\n'));
  if (found.ends_with('\r')) found.remove_suffix(1);
  return found;
}

// Bytes [begin, end) as asterisks: as many as before, so that the caret still points at its place.
void hide(std::string& line, std::size_t begin, std::size_t end) {
  end = std::min(end, line.size());
  if (begin < end) std::fill(line.begin() + begin, line.begin() + end, '*');
}

// Whether no value of a key of that name is ever a secret, or goes on like one.
bool is_harmless(std::string_view name) {
  if (name == "name") return true;  // of an entry of `databases`
  bool known = false;
  for (const config::Key& key : config::keys()) {
    const std::string_view path = key.path;
    if (path.substr(path.rfind('.') + 1) != name) continue;
    known = true;
    const bool text = key.type == config::KeyType::String;
    if (text && !name.ends_with("File") && name != "address" && name != "unixSocketDir")
      return false;
  }
  return known;
}

// Whether keys are below it, and no value of its own.
bool is_section(std::string_view name) {
  if (name == "databases" || name == "tls") return true;
  const std::vector<config::Section>& all = config::sections();
  return std::any_of(all.begin(), all.end(),
                     [&](const config::Section& section) { return section.name == name; });
}

// Whether its values are numbers, with a unit perhaps.
bool is_number(std::string_view name) {
  return std::any_of(config::keys().begin(), config::keys().end(), [name](const config::Key& key) {
    const std::string_view path = key.path;
    return path.substr(path.rfind('.') + 1) == name &&
           (key.type == config::KeyType::Int || key.type == config::KeyType::Duration);
  });
}

bool is_letter(char c) {
  const bool is_ascii = static_cast<unsigned char>(c) < 0x80;
  return !is_ascii || c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
         (c >= 'A' && c <= 'Z');
}

bool is_harmless_character(char c) {
  return is_letter(c) || c == '.' || c == '/' || c == '-' || c == '+' || c == '%' || c == '*';
}

// Output of `carpool check` ends up in build logs, and what is secret does not. A value is shown
// where its key is known to hold none. Behind any other key, or where there is none, all is hidden
// up to the end: the key may be misspelt, and the line a broken one.
std::string without_secrets(std::string_view source) {
  std::string line(source.substr(0, kShownBytes_max));
  const auto skip = [&line](const char* characters, std::size_t from) {
    return std::min(line.find_first_not_of(characters, from), line.size());
  };
  for (std::size_t at = skip(" \t-{[,}]\"'", 0); at < line.size(); at = skip(" \t-{[,}]\"'", at)) {
    const std::size_t end = static_cast<std::size_t>(
        std::find_if_not(line.begin() + static_cast<std::ptrdiff_t>(at), line.end(), is_letter) -
        line.begin());
    const std::string_view key = std::string_view(line).substr(at, end - at);
    const std::size_t colon = skip("\"' ", end);
    if (colon == line.size() || line[colon] != ':') {
      hide(line, at, line.size());
      break;
    }
    const std::size_t value = skip(" ", colon + 1);
    const bool opens = value == line.size() || line[value] == '{' || line[value] == '[';
    if (is_section(key) ? !opens : !is_harmless(key)) {
      hide(line, value, line.size());
      break;
    }
    if (is_section(key)) {
      at = colon + 1;
      continue;
    }
    // One word, and then the end of it: else a comma is missing, and what comes is another's.
    const std::size_t word = skip("[\"' ", value);
    at = static_cast<std::size_t>(std::find_if_not(line.begin() + static_cast<std::ptrdiff_t>(word),
                                                   line.end(), is_harmless_character) -
                                  line.begin());
    if (is_number(key) && word < line.size() && !(line[word] >= '0' && line[word] <= '9'))
      at = word;
    const std::size_t next = skip("]\"' ", at);
    if (next < line.size() && line[next] != ',' && line[next] != '}') {
      hide(line, at, line.size());
      break;
    }
    at = next;
  }
  return line;
}

// The source line, and a caret below the column; a tab stays a tab so that both line up.
void print_place(std::string_view text, const config::Problem& problem, std::ostream& err) {
  if (problem.line == 0 || problem.column == 0) return;
  std::string line = without_secrets(line_at(text, problem.line));
  std::size_t column = static_cast<std::size_t>(problem.column) - 1;
  if (column > line.size()) return;
  std::string indent;
  for (std::size_t i = 0; i < column; i++) {
    bool continuation = (static_cast<unsigned char>(line[i]) & 0xc0) == 0x80;
    if (!continuation) indent += line[i] == '\t' ? '\t' : ' ';
  }
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t') c = '?';
  }
  err << "    " << line << "\n    " << indent << "^\n";
}

std::string count_of(std::size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

void print_summary(const std::string& file, const config::LoadResult& loaded, std::ostream& out) {
  const config::Config& config = *loaded.config;
  out << fmt::format("{}: valid", file);
  if (!loaded.warnings.empty()) out << ", " << count_of(loaded.warnings.size(), "warning");
  out << fmt::format("\n  clients connect to {} port {}", config.listen.address,
                     config.listen.port);
  if (!config.listen.unix_socket_dir.empty()) {
    out << fmt::format(" and {}/.s.PGSQL.{}", config.listen.unix_socket_dir, config.listen.port);
  }
  out << "\n";
  static constexpr const char* kModes[] = {"session", "transaction", "statement"};
  for (const config::Database& database : config.databases) {
    out << fmt::format("  database {}: {} mode, {}",
                       database.name == "*" ? "* (any)" : database.name,
                       kModes[static_cast<std::size_t>(database.pool.mode)],
                       count_of(database.pool.size, "server"));
    if (database.pool.overflow > 0) out << fmt::format(" and {} overflow", database.pool.overflow);
    out << " a user\n";
  }
  out << fmt::format("  sha256 {}\n", loaded.sha256);
}

}  // namespace

int run_check(const std::string& file, const config::Environment& env, std::ostream& out,
              std::ostream& err) {
  Result<std::string> text = config::read_file(file);
  if (!text) {
    err << file << ": " << text.error().message << "\n";
    return kExitNoInput;
  }
  config::LoadResult loaded = config::load_text(*text, env);
  for (const config::Problem& problem : loaded.problems) {
    err << config::format(problem, file) << "\n";
    print_place(*text, problem, err);
  }
  for (config::Problem warning : loaded.warnings) {
    warning.message = "warning: " + warning.message;
    err << config::format(warning, file) << "\n";
    print_place(*text, warning, err);
  }
  if (!loaded.config) {
    err << fmt::format("{}: {}\n", file, count_of(loaded.problems.size(), "error"));
    return kExitBadConfig;
  }
  print_summary(file, loaded, out);
  return kExitValid;
}

}  // namespace carpool::cli
