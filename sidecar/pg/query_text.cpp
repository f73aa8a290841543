#include "pg/query_text.h"

#include <cctype>

namespace carpool::pg {
namespace {

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// The end of the literal that begins at `i` with a quote: behind its closing one, or the end. Where
// that depends on the session, on standard_conforming_strings or on an encoding in which a
// backslash is the half of a character, the end of the text.
std::size_t skip_string(std::string_view sql, std::size_t i, bool backslashes) {
  for (++i; i < sql.size(); ++i) {
    if (sql[i] == '\\') {
      const bool may_be_half = static_cast<unsigned char>(sql[i - 1]) >= 0x80;
      const bool before_quote = sql.substr(i + 1).starts_with('\'');
      if (before_quote && (!backslashes || may_be_half)) return sql.size();
      if (backslashes) ++i;
    } else if (sql[i] == '\'') {
      if (i + 1 < sql.size() && sql[i + 1] == '\'') {
        ++i;
      } else {
        return i + 1;
      }
    }
  }
  return sql.size();
}

// The end of a dollar-quoted text at `i`, or `i` where there is none.
std::size_t skip_dollar(std::string_view sql, std::size_t i) {
  std::size_t tag = i + 1;
  while (tag < sql.size() && is_word(sql[tag]) && sql[tag] != '$') ++tag;
  if (tag >= sql.size() || sql[tag] != '$') return i;
  if (tag > i + 1 && std::isdigit(static_cast<unsigned char>(sql[i + 1])) != 0) return i;
  const std::string_view quote = sql.substr(i, tag + 1 - i);
  const std::size_t end = sql.find(quote, tag + 1);
  return end == std::string_view::npos ? sql.size() : end + quote.size();
}

// The end of the block comment at `i`; they nest.
std::size_t skip_comment(std::string_view sql, std::size_t i) {
  int depth = 0;
  while (i < sql.size()) {
    const std::string_view two = sql.substr(i, 2);
    if (two == "/*") {
      ++depth;
      i += 2;
    } else if (two == "*/") {
      i += 2;
      if (--depth == 0) return i;
    } else {
      ++i;
    }
  }
  return sql.size();
}

}  // namespace

std::string one_line(std::string_view sql) {
  std::string out;
  bool blank = false;
  for (const char c : sql.substr(0, sql.find('\0'))) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      blank = !out.empty();
      continue;
    }
    if (blank) out += ' ';
    blank = false;
    out += c;
  }
  return out;
}

std::string masked(std::string_view sql) {
  sql = sql.substr(0, sql.find('\0'));
  std::string out;
  for (std::size_t i = 0; i < sql.size();) {
    const char c = sql[i];
    const bool in_word = i > 0 && is_word(sql[i - 1]);
    if (c == '\'') {
      // Only E'...' has backslash escapes.
      const bool escapes =
          in_word && (sql[i - 1] == 'E' || sql[i - 1] == 'e') && (i < 2 || !is_word(sql[i - 2]));
      i = skip_string(sql, i, escapes);
      out += '?';
    } else if (c == '$' && !in_word && skip_dollar(sql, i) != i) {
      i = skip_dollar(sql, i);
      out += '?';
    } else if (std::isdigit(static_cast<unsigned char>(c)) != 0 && !in_word) {
      while (i < sql.size() && (is_word(sql[i]) || sql[i] == '.')) ++i;
      out += '?';
    } else if (c == '"') {
      const std::size_t end = sql.find('"', i + 1);
      const std::size_t stop = end == std::string_view::npos ? sql.size() : end + 1;
      out += sql.substr(i, stop - i);
      i = stop;
    } else if (c == '-' && i + 1 < sql.size() && sql[i + 1] == '-') {
      const std::size_t end = sql.find('\n', i);
      i = end == std::string_view::npos ? sql.size() : end;
    } else if (c == '/' && i + 1 < sql.size() && sql[i + 1] == '*') {
      i = skip_comment(sql, i);
    } else {
      out += c;
      ++i;
    }
  }
  return one_line(out);
}

}  // namespace carpool::pg
