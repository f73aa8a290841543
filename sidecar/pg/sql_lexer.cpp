#include "pg/sql_lexer.h"

#include <algorithm>
#include <array>

namespace carpool::pg {
namespace {

constexpr std::size_t kNameBytesMax = 63;  // NAMEDATALEN - 1

enum CharClass : std::uint8_t {
  kOther = 0,
  kSpace = 1,
  kNameStart = 2,
  kDigit = 4,
  kDollar = 8,
  // The first letters of what scan() looks for in the midst of a statement: INSERT, INTO, MERGE,
  // UPDATE, the functions of sql_calls.h, and in a DO block BEGIN, ELSE, LOOP, THEN.
  kNotable = 16,
};

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (const char c : {' ', '\t', '\n', '\r', '\f', '\v'}) {
    classes[static_cast<unsigned char>(c)] = kSpace;
  }
  for (unsigned c = 'a'; c <= 'z'; ++c) classes[c] = kNameStart;
  for (unsigned c = 'A'; c <= 'Z'; ++c) classes[c] = kNameStart;
  for (unsigned c = 0x80; c <= 0xFF; ++c) classes[c] = kNameStart;
  classes['_'] = kNameStart;
  for (unsigned c = '0'; c <= '9'; ++c) classes[c] = kDigit;
  classes['$'] = kDollar;
  for (const char c : std::string_view("beilmpqstuBEILMPQSTU")) {
    classes[static_cast<unsigned char>(c)] |= kNotable;
  }
  return classes;
}

constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

constexpr bool has_class(char c, unsigned classes) {
  return (kClasses[static_cast<unsigned char>(c)] & classes) != 0;
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

// The end of the run of characters of these classes that starts at `at`.
std::size_t run_end(std::string_view text, std::size_t at, unsigned classes) {
  while (at < text.size() && has_class(text[at], classes)) ++at;
  return at;
}

// A string goes on after its closing quote where only white space and "--" comments with at least
// one line break stand before the next quote. Returns the position of that quote, or npos.
std::size_t continuation(std::string_view text, std::size_t at) {
  bool line_break = false;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '\'') return line_break ? at : std::string_view::npos;
    if (has_class(c, kSpace)) {
      line_break = line_break || c == '\n' || c == '\r';
      ++at;
    } else if (text.substr(at, 2) == "--") {
      at = std::min(text.find_first_of("\r\n", at), text.size());
    } else {
      break;
    }
  }
  return std::string_view::npos;
}

// Number of bytes that `text` has from `at` of hexadecimal digits, at most `count_max`.
std::size_t read_digits(std::string_view text, std::size_t at, unsigned base, std::size_t count_max,
                        std::uint32_t& value) {
  std::size_t count = 0;
  value = 0;
  for (; count < count_max && at + count < text.size(); ++count) {
    const char c = lower(text[at + count]);
    unsigned digit = 99;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (digit >= base) break;
    value = value * base + digit;
  }
  return count;
}

bool append_utf8(std::string& out, std::uint32_t code) {
  if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
  return true;
}

// Appends what the escape behind the backslash before `at` means, and returns the position behind
// it; npos where PostgreSQL would refuse it.
std::size_t decode_escape(std::string_view text, std::size_t at, std::string& out) {
  constexpr std::size_t kRefused = std::string_view::npos;
  if (at >= text.size()) return kRefused;
  const char c = text[at];
  std::uint32_t value = 0;
  switch (c) {
    case 'b':
      out.push_back('\b');
      return at + 1;
    case 'f':
      out.push_back('\f');
      return at + 1;
    case 'n':
      out.push_back('\n');
      return at + 1;
    case 'r':
      out.push_back('\r');
      return at + 1;
    case 't':
      out.push_back('\t');
      return at + 1;
    case 'v':
      out.push_back('\v');
      return at + 1;
    case 'u':
    case 'U': {
      const std::size_t length = c == 'u' ? 4 : 8;
      if (read_digits(text, at + 1, 16, length, value) != length) return kRefused;
      return append_utf8(out, value) ? at + 1 + length : kRefused;
    }
    case 'x': {
      const std::size_t count = read_digits(text, at + 1, 16, 2, value);
      if (count == 0) break;
      if (value == 0) return kRefused;
      out.push_back(static_cast<char>(value));
      return at + 1 + count;
    }
    default:
      if (c >= '0' && c <= '7') {
        const std::size_t count = read_digits(text, at, 8, 3, value);
        if ((value & 0xFF) == 0) return kRefused;
        out.push_back(static_cast<char>(value & 0xFF));
        return at + count;
      }
  }
  out.push_back(c);
  return at + 1;
}

}  // namespace

Token SqlLexer::take(TokenType type, std::size_t end) {
  const Token token{type, sql_.substr(at_, end - at_)};
  at_ = end;
  return token;
}

void SqlLexer::skip_block_comment() {
  std::size_t depth = 0;
  while (at_ < sql_.size()) {
    const std::string_view two = sql_.substr(at_, 2);
    if (two == "/*") {
      ++depth;
      at_ += 2;
    } else if (two == "*/") {
      at_ += 2;
      if (--depth == 0) return;
    } else {
      ++at_;
    }
  }
}

void SqlLexer::skip_space_and_comments() {
  while (at_ < sql_.size()) {
    const char c = sql_[at_];
    if (has_class(c, kSpace)) {
      ++at_;
    } else if (c == '-' && sql_.substr(at_, 2) == "--") {
      at_ = std::min(sql_.find_first_of("\r\n", at_), sql_.size());
    } else if (c == '/' && sql_.substr(at_, 2) == "/*") {
      skip_block_comment();
    } else {
      return;
    }
  }
}

// `quote` is the position of the opening quote.
std::size_t SqlLexer::string_end(std::size_t quote, bool backslash_escapes) const {
  std::size_t at = quote + 1;
  while (true) {
    if (backslash_escapes) {
      while (at < sql_.size() && sql_[at] != '\'') at += sql_[at] == '\\' ? 2 : 1;
    } else {
      at = sql_.find('\'', at);
    }
    if (at >= sql_.size()) return sql_.size();
    ++at;
    if (at < sql_.size() && sql_[at] == '\'') {
      ++at;  // a doubled quote
      continue;
    }
    const std::size_t next = continuation(sql_, at);
    if (next == std::string_view::npos) return at;
    at = next + 1;
  }
}

// `dollar` is the position of the opening "$". Returns 0 where it opens no string.
std::size_t SqlLexer::dollar_string_end(std::size_t dollar) const {
  std::size_t tag_end = dollar + 1;
  if (tag_end < sql_.size() && has_class(sql_[tag_end], kNameStart)) {
    tag_end = run_end(sql_, tag_end, kNameStart | kDigit);
  }
  if (tag_end >= sql_.size() || sql_[tag_end] != '$') return 0;
  const std::string_view tag = sql_.substr(dollar, tag_end + 1 - dollar);
  // Linear although the tag may be long: it holds "$" only at its ends, so that each failed
  // comparison stops before the next "$" of the text.
  const std::size_t close = sql_.find(tag, tag_end + 1);
  return close == std::string_view::npos ? sql_.size() : close + tag.size();
}

Token SqlLexer::next() {
  skip_space_and_comments();
  if (at_ >= sql_.size()) return {};
  const char c = sql_[at_];
  const char after = at_ + 1 < sql_.size() ? sql_[at_ + 1] : '\0';
  if (has_class(c, kNameStart)) {
    const char letter = lower(c);
    if (after == '\'') {
      if (letter == 'e') return take(TokenType::String, string_end(at_ + 1, true));
      if (letter == 'b' || letter == 'x') {
        return take(TokenType::String, string_end(at_ + 1, false));
      }
    }
    if (letter == 'u' && after == '&' && at_ + 2 < sql_.size()) {
      if (sql_[at_ + 2] == '\'') return take(TokenType::String, string_end(at_ + 2, false));
      if (sql_[at_ + 2] == '"') {
        const std::size_t close = sql_.find('"', at_ + 3);
        return take(TokenType::QuotedName, std::min(close, sql_.size() - 1) + 1);
      }
    }
    return take(TokenType::Word, run_end(sql_, at_ + 1, kNameStart | kDigit | kDollar));
  }
  if (c == '\'') {
    return take(TokenType::String, string_end(at_, !standard_conforming_strings_));
  }
  if (c == '"') {
    std::size_t end = at_ + 1;
    while (true) {
      end = sql_.find('"', end);
      if (end == std::string_view::npos) return take(TokenType::QuotedName, sql_.size());
      ++end;
      if (end >= sql_.size() || sql_[end] != '"') return take(TokenType::QuotedName, end);
      ++end;
    }
  }
  if (has_class(c, kDigit) || (c == '.' && has_class(after, kDigit))) {
    std::size_t end = run_end(sql_, at_, kDigit);
    if (end < sql_.size() && sql_[end] == '.') end = run_end(sql_, end + 1, kDigit);
    if (end < sql_.size() && lower(sql_[end]) == 'e') {
      std::size_t digits = end + 1;
      if (digits < sql_.size() && (sql_[digits] == '+' || sql_[digits] == '-')) ++digits;
      const std::size_t exponent_end = run_end(sql_, digits, kDigit);
      if (exponent_end > digits) end = exponent_end;
    }
    return take(TokenType::Number, end);
  }
  if (c == '$') {
    if (has_class(after, kDigit)) {
      return take(TokenType::Parameter, run_end(sql_, at_ + 1, kDigit));
    }
    const std::size_t end = dollar_string_end(at_);
    if (end != 0) return take(TokenType::DollarString, end);
  }
  return take(TokenType::Symbol, at_ + 1);
}

Token SqlLexer::next_notable(bool& skipped) {
  while (true) {
    const Token token = next();
    if (token.type == TokenType::End) return token;
    const char c = token.text[0];
    if (token.type == TokenType::Symbol) {
      if (c == '(' || c == ')' || c == ';') return token;
    } else if (token.type == TokenType::Word) {
      if (has_class(c, kNotable)) return token;
    } else if (token.type == TokenType::QuotedName) {
      if (c != '"' || (token.text.size() > 1 && has_class(token.text[1], kNotable))) return token;
    }
    skipped = true;
  }
}

std::optional<std::string> decode_string(const Token& token, bool standard_conforming_strings) {
  const std::string_view text = token.text;
  if (token.type == TokenType::DollarString) {
    const std::size_t tag = text.find('$', 1) + 1;
    const bool closed = text.size() >= 2 * tag && text.ends_with(text.substr(0, tag));
    if (!closed) return std::nullopt;
    return std::string(text.substr(tag, text.size() - 2 * tag));
  }
  if (token.type != TokenType::String) return std::nullopt;
  const char prefix = lower(text[0]);
  if (prefix != '\'' && prefix != 'e') return std::nullopt;
  const bool escapes = prefix == 'e' || !standard_conforming_strings;
  std::string out;
  std::size_t at = prefix == 'e' ? 2 : 1;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '\\' && escapes) {
      at = decode_escape(text, at + 1, out);
      if (at == std::string_view::npos) return std::nullopt;
    } else if (c != '\'') {
      out.push_back(c);
      ++at;
    } else if (at + 1 == text.size()) {
      return out;
    } else if (text[at + 1] == '\'') {
      out.push_back('\'');
      at += 2;
    } else {
      at = continuation(text, at + 1);
      if (at == std::string_view::npos) return std::nullopt;
      ++at;
    }
  }
  return std::nullopt;  // never closed
}

std::string decode_name(const Token& token) {
  std::string name;
  if (token.type == TokenType::QuotedName && token.text[0] == '"') {
    std::string_view text = token.text.substr(1);
    if (!text.empty() && text.back() == '"') text.remove_suffix(1);
    for (std::size_t i = 0; i < text.size(); ++i) {
      name.push_back(text[i]);
      if (text[i] == '"') ++i;  // a doubled quote
    }
  } else {
    name = token.type == TokenType::Word ? to_lower(token.text) : std::string(token.text);
  }
  if (name.size() > kNameBytesMax) {
    std::size_t end = kNameBytesMax;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
    name.resize(end);
  }
  return name;
}

std::string quote_literal(std::string_view text) {
  const bool backslashes = text.find('\\') != std::string_view::npos;
  std::string out = backslashes ? "E'" : "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out.push_back(c);
    out.push_back(c);
  }
  out.push_back('\'');
  return out;
}

std::string quote_name(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"') out.push_back(c);
    out.push_back(c);
  }
  out.push_back('"');
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

}  // namespace carpool::pg
