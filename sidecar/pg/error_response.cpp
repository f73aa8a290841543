#include "pg/error_response.h"

#include <algorithm>
#include <cstring>

namespace carpool::pg {
namespace {

constexpr std::size_t kSqlstateLength = 5;

std::string_view severity_word(Severity severity) {
  switch (severity) {
    case Severity::Error:
      return "ERROR";
    case Severity::Fatal:
      return "FATAL";
    case Severity::Panic:
      return "PANIC";
    case Severity::Warning:
      return "WARNING";
    case Severity::Notice:
      return "NOTICE";
    case Severity::Debug:
      return "DEBUG";
    case Severity::Info:
      return "INFO";
    case Severity::Log:
      return "LOG";
  }
  return "ERROR";
}

bool is_error(Severity severity) {
  return severity == Severity::Error || severity == Severity::Fatal || severity == Severity::Panic;
}

bool is_sqlstate(std::string_view code) {
  return code.size() == kSqlstateLength && std::all_of(code.begin(), code.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
         });
}

// At most kErrorTextMax bytes, and no half of a UTF-8 character at the end.
std::string_view cut(std::string_view text) {
  if (text.size() <= kErrorTextMax) return text;
  std::size_t end = kErrorTextMax;
  constexpr std::size_t kUtf8TailMax = 3;
  for (std::size_t back = 0; back < kUtf8TailMax; ++back) {
    if ((static_cast<unsigned char>(text[end]) & 0xC0) != 0x80) break;
    --end;
  }
  return text.substr(0, end);
}

void append_field(std::vector<std::uint8_t>& out, char type, std::string_view text) {
  out.push_back(static_cast<std::uint8_t>(type));
  for (const char c : cut(text)) out.push_back(static_cast<std::uint8_t>(c == '\0' ? '?' : c));
  out.push_back(0);
}

}  // namespace

void append_error(std::vector<std::uint8_t>& out, Severity severity, std::string_view sqlstate,
                  std::string_view message, std::string_view detail, std::string_view hint,
                  std::string_view routine) {
  out.push_back(is_error(severity) ? 'E' : 'N');
  const std::size_t length_at = out.size();
  out.insert(out.end(), 4, 0);
  append_field(out, 'S', severity_word(severity));
  append_field(out, 'V', severity_word(severity));
  append_field(out, 'C', is_sqlstate(sqlstate) ? sqlstate : sqlstate::kInternalError);
  append_field(out, 'M', message);
  if (!detail.empty()) append_field(out, 'D', detail);
  if (!hint.empty()) append_field(out, 'H', hint);
  if (!routine.empty()) append_field(out, 'R', routine);
  out.push_back(0);
  const std::size_t length = out.size() - length_at;
  for (std::size_t i = 0; i < 4; ++i) {
    out[length_at + i] = static_cast<std::uint8_t>(length >> (8 * (3 - i)));
  }
}

std::optional<ErrorFields> parse_error(std::span<const std::uint8_t> body) {
  ErrorFields fields;
  bool has_message = false;
  bool has_severity = false;  // V was seen
  std::size_t at = 0;
  while (at < body.size() && body[at] != 0) {
    const char type = static_cast<char>(body[at++]);
    const char* text_start = reinterpret_cast<const char*>(body.data()) + at;
    const std::size_t left = body.size() - at;
    const void* nul = left == 0 ? nullptr : std::memchr(text_start, 0, left);
    const std::size_t length =
        nul == nullptr ? left
                       : static_cast<std::size_t>(static_cast<const char*>(nul) - text_start);
    const std::string_view text(left == 0 ? "" : text_start, length);
    at += length + 1;  // past the end where the NUL is missing, which ends the loop
    switch (type) {
      case 'S':
        if (fields.severity.empty()) fields.severity = text;
        break;
      case 'V':
        if (!has_severity) fields.severity = text;
        has_severity = true;
        break;
      case 'C':
        if (fields.sqlstate.empty() && is_sqlstate(text)) fields.sqlstate = text;
        break;
      case 'M':
        if (!has_message) fields.message = text;
        has_message = true;
        break;
      case 'D':
        if (fields.detail.empty()) fields.detail = text;
        break;
      case 'H':
        if (fields.hint.empty()) fields.hint = text;
        break;
      default:
        break;
    }
  }
  if (fields.sqlstate.empty() && !has_message) return std::nullopt;
  return fields;
}

}  // namespace carpool::pg
