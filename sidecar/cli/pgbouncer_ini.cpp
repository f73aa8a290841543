#include "cli/pgbouncer_ini.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

namespace carpool::cli {
namespace {

constexpr std::string_view kSpace = " \t\r\f\v";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// Calls fn(line, number), without line feeds; until it returns false.
template <typename Fn>
void for_each_line(std::string_view text, Fn&& fn) {
  for (int number = 1; !text.empty(); number++) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (!fn(trim(text.substr(0, end)), number)) return;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// A text between quotes at the front of `rest`, in which a doubled quote stands for one; takes it.
std::optional<std::string> take_quoted(std::string_view& rest, char quote) {
  if (rest.empty() || rest.front() != quote) return std::nullopt;
  std::string text;
  for (std::size_t i = 1; i < rest.size(); i++) {
    if (rest[i] != quote) {
      text += rest[i];
    } else if (i + 1 < rest.size() && rest[i + 1] == quote) {
      text += rest[i++];
    } else {
      rest.remove_prefix(i + 1);
      return text;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<std::vector<IniEntry>> parse_pgbouncer_ini(std::string_view text) {
  std::vector<IniEntry> entries;
  std::string section;
  std::optional<Error> error;
  const auto fail = [&error](int number, std::string_view why) {
    error = Error{fmt::format("line {}: {}", number, why)};
    return false;
  };
  for_each_line(text, [&](std::string_view line, int number) {
    if (line.empty() || line.front() == ';' || line.front() == '#') return true;
    if (line.front() == '%') {
      return fail(number,
                  "%include and other directives are not followed: put the file's content in "
                  "their place");
    }
    if (line.front() == '[') {
      if (line.back() != ']') return fail(number, "a section without its `]`");
      section = trim(line.substr(1, line.size() - 2));
      return true;
    }
    if (section.empty()) return fail(number, "a setting before the first [section]");
    std::string key;
    std::string_view rest = line;
    if (line.front() == '"') {
      std::optional<std::string> quoted = take_quoted(rest, '"');
      if (!quoted) return fail(number, "a quote that does not end");
      key = *quoted;
    } else {
      key = trim(line.substr(0, std::min(line.find('='), line.size())));
      rest = line.substr(std::min(line.find('='), line.size()));
    }
    rest = trim(rest);
    if (key.empty() || rest.empty() || rest.front() != '=') {
      return fail(number, "neither `key = value` nor a [section]");
    }
    entries.push_back({section, key, std::string(trim(rest.substr(1))), number});
    return true;
  });
  if (error) return *error;
  return entries;
}

const IniEntry* find_setting(const std::vector<IniEntry>& ini, std::string_view key) {
  const auto found = std::find_if(ini.rbegin(), ini.rend(), [&](const IniEntry& entry) {
    return entry.section == "pgbouncer" && entry.key == key;
  });
  return found == ini.rend() ? nullptr : &*found;
}

std::string setting_or(const std::vector<IniEntry>& ini, std::string_view key,
                       std::string_view otherwise) {
  const IniEntry* entry = find_setting(ini, key);
  return std::string(entry == nullptr ? otherwise : entry->value);
}

Result<ConnectPairs> parse_connect_string(std::string_view text) {
  ConnectPairs pairs;
  text = trim(text);
  while (!text.empty()) {
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) return Error{"a word that is no `key=value`"};
    std::string key(trim(text.substr(0, equals)));
    text = trim(text.substr(equals + 1));
    std::string value;
    if (!text.empty() && text.front() == '\'') {
      std::optional<std::string> quoted = take_quoted(text, '\'');
      if (!quoted) return Error{"a quote that does not end"};
      value = *quoted;
    } else {
      const std::size_t end = std::min(text.find_first_of(kSpace), text.size());
      value = text.substr(0, end);
      text.remove_prefix(end);
    }
    pairs.emplace_back(std::move(key), std::move(value));
    text = trim(text);
  }
  return pairs;
}

std::vector<UserlistEntry> parse_userlist(std::string_view text) {
  std::vector<UserlistEntry> entries;
  for_each_line(text, [&](std::string_view line, int number) {
    std::optional<std::string> user = take_quoted(line, '"');
    if (!user) return true;
    line = trim(line);
    const std::optional<std::string> secret = take_quoted(line, '"');
    if (!secret) return true;
    const bool md5 = secret->size() == 35 && secret->starts_with("md5") &&
                     std::all_of(secret->begin() + 3, secret->end(),
                                 [](unsigned char c) { return std::isxdigit(c) != 0; });
    entries.push_back({*user,
                       secret->empty()                         ? SecretKind::Empty
                       : md5                                   ? SecretKind::Md5
                       : secret->starts_with("SCRAM-SHA-256$") ? SecretKind::Scram
                                                               : SecretKind::Plain,
                       number});
    return true;
  });
  return entries;
}

}  // namespace carpool::cli
