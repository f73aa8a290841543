#include "cli/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <string_view>

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

// Output of `carpool check` ends up in build logs; passwords that stand in the file do not. What
// might be part of one is hidden too: the line may be a broken one.
std::string without_passwords(std::string_view source) {
  std::string line(source.substr(0, kShownBytes_max));
  // scheme://user:password@host
  if (std::size_t scheme = line.find("://"); scheme != std::string::npos) {
    std::size_t colon = line.find(':', scheme + 3);
    std::size_t at = line.rfind('@');
    if (colon < at && at != std::string::npos) hide(line, colon + 1, at);
  }
  // password: value, password=value and misspellings; but not passwordFile.
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  std::string folded = line;
  std::transform(folded.begin(), folded.end(), folded.begin(), lower);
  for (std::size_t at = 0; (at = folded.find("pass", at)) != std::string::npos;) {
    std::size_t end = folded.find_first_not_of("abcdefghijklmnopqrstuvwxyz_-", at);
    bool is_file = folded.substr(at, end - at).ends_with("file");
    at = std::min(folded.find_first_not_of("\"' ", end), line.size());
    if (is_file || at == line.size()) continue;
    if (line[at] == ':') hide(line, at + 1, line.size());
    bool quoted = line[at] == '=' && line.compare(at + 1, 1, "'") == 0;
    if (line[at] == '=') hide(line, at + 1, line.find_first_of(quoted ? "'" : "& ", at + 2));
  }
  return line;
}

// The source line, and a caret below the column; a tab stays a tab so that both line up.
void print_place(std::string_view text, const config::Problem& problem, std::ostream& err) {
  if (problem.line == 0 || problem.column == 0) return;
  std::string line = without_passwords(line_at(text, problem.line));
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
