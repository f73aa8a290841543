#include "config/postgres_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/text.h"

namespace carpool::config {
namespace {

// getopt's letters, those with a `:` have an argument. `-c` and `--` set what is named, the others
// stand for one setting, do nothing in a connection, or never work in one.
constexpr std::string_view kLetters = "B:b,C:c:D:d:E,e,F,f:h:i,j,k:l,N:n,O,P,p:r:S:s,T,t:v:W:-:";
constexpr std::string_view kServerOnly = "BFhiklNp";

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// `-c name=value`, without what is before the name.
SettingVerdict check_assignment(std::string_view text) {
  const std::size_t equals = text.find('=');
  std::string name(text.substr(0, equals));
  std::replace(name.begin(), name.end(), '-', '_');
  if (equals == std::string_view::npos) {
    return {fmt::format("{} lacks its `=` and a value", quote(name)), ""};
  }
  return check_setting(name, text.substr(equals + 1));
}

// `letter` is one of kLetters, `argument` what it needs, if anything.
SettingVerdict check_switch(char letter, std::string_view argument) {
  switch (letter) {
    case 'c':
    case '-':
      return check_assignment(argument);
    case 'S':
      return check_setting("work_mem", argument);
    case 'W':
      return check_setting("post_auth_delay", argument);
    case 'f':
      // One of the ways to scan or join, by its letter.
      if (argument.find_first_of("siobtnmh") == 0) return {};
      return {"the argument of `-f` is none of s, i, o, b, t, n, m or h", ""};
    case 't':
      // "parser", "planner" or "executor", by what tells them apart.
      if (argument.starts_with("pa") || argument.starts_with("pl") || argument.starts_with("e")) {
        return {};
      }
      return {"the argument of `-t` is none of pa, pl or e", ""};
    default:
      break;
  }
  if (kServerOnly.find(letter) == std::string_view::npos) return {};
  return {fmt::format("`-{}` is the whole server's, and no connection can set it", letter), ""};
}

}  // namespace

std::vector<std::string> split_options(std::string_view options) {
  std::vector<std::string> words;
  std::size_t at = 0;
  while (true) {
    while (at < options.size() && is_blank(options[at])) at++;
    if (at == options.size()) return words;
    std::string word;
    for (; at < options.size() && !is_blank(options[at]); at++) {
      if (options[at] == '\\' && ++at == options.size()) break;
      word += options[at];
    }
    words.push_back(std::move(word));
  }
}

std::string escaped_option(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || is_blank(c)) out += '\\';
    out += c;
  }
  return out;
}

OptionsVerdict check_options(std::string_view options) {
  OptionsVerdict verdict;
  const std::size_t last = options.find_last_not_of('\\');
  const std::size_t begin = last == std::string_view::npos ? 0 : last + 1;
  if ((options.size() - begin) % 2 == 1) {
    verdict.error = "ends with a backslash, which would join it to what is behind it";
    return verdict;
  }
  const std::vector<std::string> words = split_options(options);
  for (std::size_t i = 0; i < words.size(); i++) {
    const std::string& word = words[i];
    if (word == "--") {
      if (i + 1 == words.size()) break;
      verdict.error = "has something behind a `--`; write `-c name=value`";
      return verdict;
    }
    if (word.size() < 2 || word.front() != '-') {
      // Neon's proxy takes this word for itself.
      if (word.starts_with("endpoint=") || word.starts_with("project=")) {
        verdict.warnings.push_back(
            "`endpoint=...` is for Neon's proxy; PostgreSQL itself refuses it");
        continue;
      }
      verdict.error = fmt::format(
          "word {} is no option; write `-c name=value`, with a backslash before each space of the "
          "value",
          i + 1);
      return verdict;
    }
    // Letters stand together until one has an argument: the rest of the word, or the next.
    for (std::size_t j = 1; j < word.size(); j++) {
      const std::size_t known = kLetters.find(word[j]);
      const bool letter = word[j] != ':' && word[j] != ',' && known != std::string_view::npos;
      if (!letter) {
        verdict.error =
            fmt::format("word {} begins with `-` and is no option of PostgreSQL", i + 1);
        return verdict;
      }
      std::string_view argument;
      const bool takes = kLetters[known + 1] == ':';
      if (takes && j + 1 < word.size()) {
        argument = std::string_view(word).substr(j + 1);
      } else if (takes && i + 1 < words.size()) {
        argument = words[++i];
      } else if (takes) {
        verdict.error = fmt::format("`-{}` lacks what has to follow it", word[j]);
        return verdict;
      }
      SettingVerdict one = check_switch(word[j], argument);
      verdict.error = std::move(one.error);
      if (!verdict.error.empty()) return verdict;
      if (!one.warning.empty()) verdict.warnings.push_back(std::move(one.warning));
      if (takes) break;
    }
  }
  return verdict;
}

}  // namespace carpool::config
