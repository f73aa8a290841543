// YAML in block style. Written by hand, since an emitter would have to be told what may stand
// without quotes anyway.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Whether a string may be written without quotes.
bool may_be_plain(std::string_view text) {
  if (!is_word(text) || text.back() == ' ' || text.back() == ':') return false;
  for (std::size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (c == ':' && next == ' ') return false;
    if (!is_letter(c) && (c < '0' || c > '9') &&
        std::string_view("_./@=,+-$()%; :").find(c) == std::string_view::npos) {
      return false;
    }
  }
  return true;
}

// The code point at `at`, which moves behind it; a byte that is not of UTF-8 as U+FFFD.
char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = static_cast<unsigned char>(text[at++]);
  const int more = byte < 0x80 ? 0 : byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : -1;
  if (more < 0) return 0xfffd;
  char32_t code = more == 0 ? byte : byte & (0x3f >> more);
  for (int i = 0; i < more; i++) {
    if (at == text.size() || (static_cast<unsigned char>(text[at]) & 0xc0) != 0x80) return 0xfffd;
    code = (code << 6) | (static_cast<unsigned char>(text[at++]) & 0x3f);
  }
  return code;
}

// What every reader of YAML, 1.1 or 1.2, takes as it stands and as no line break.
bool shows_itself(char32_t code) {
  return (code >= 0x20 && code < 0x7f) ||
         (code >= 0xa0 && code < 0xd800 && code != 0x2028 && code != 0x2029) ||
         (code >= 0xe000 && code < 0xfffd && code != 0xfeff) ||
         (code >= 0x10000 && code < 0x110000);
}

std::string yaml_quoted(std::string_view text) {
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t code = next_code_point(text, at);
    if (code == '"' || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\t') {
      out += "\\t";
    } else if (shows_itself(code)) {
      out += text.substr(begin, at - begin);
    } else {
      const auto number = static_cast<std::uint32_t>(code);
      out += number < 0x100     ? fmt::format("\\x{:02x}", number)
             : number < 0x10000 ? fmt::format("\\u{:04x}", number)
                                : fmt::format("\\U{:08x}", number);
    }
  }
  return out + '"';
}

// Lines that can stand as a literal block (`|`), as scripts are written.
bool is_block(std::string_view text) {
  if (text.find('\n') == std::string_view::npos || text[0] == ' ' || text[0] == '\n') return false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (code != '\n' && !shows_itself(code)) return false;
    if (code == ' ' && (at == text.size() || text[at] == '\n')) return false;  // easily lost
  }
  return true;
}

class YamlWriter {
 public:
  std::string out;

  // Behind `key:` or `-`, whose line is still open.
  void write(const Value& value, std::size_t indent, bool in_list) {
    if (const Map* map = value.map(); map != nullptr && !map->empty()) {
      write_map(*map, indent, in_list);
    } else if (const List* list = value.list(); list != nullptr && !list->empty()) {
      write_list(*list, indent, in_list);
    } else if (const Scalar* scalar = value.scalar()) {
      out += ' ';
      write_scalar(*scalar, indent);
      out += '\n';
    } else {
      out += value.map() != nullptr ? " {}\n" : value.list() != nullptr ? " []\n" : " null\n";
    }
  }

  void write_map(const Map& map, std::size_t indent, bool in_list) {
    bool first = true;
    for (const Entry& entry : map) {
      begin_line(indent, std::exchange(first, false), in_list);
      write_line(entry.key);
      out += ':';
      write(entry.value, indent + 2, false);
    }
  }

  void write_list(const List& list, std::size_t indent, bool in_list) {
    bool first = true;
    for (const Value& item : list) {
      begin_line(indent, std::exchange(first, false), in_list);
      out += '-';
      write(item, indent + 2, true);
    }
  }

 private:
  // The first entry of what stands in a list begins on the line of its dash.
  void begin_line(std::size_t indent, bool first, bool in_list) {
    if (first && in_list) {
      out += ' ';
      return;
    }
    if (first && !out.empty()) out += '\n';
    out.append(indent, ' ');
  }

  void write_line(const Scalar& scalar) {
    if (!scalar.tag.empty()) out += fmt::format("!<{}> ", scalar.tag);
    const bool quotes = scalar.is_string ? !may_be_plain(scalar.text) : !scalar.tag.empty();
    out += quotes ? yaml_quoted(scalar.text) : scalar.text;
  }

  void write_scalar(const Scalar& scalar, std::size_t indent) {
    if (!scalar.is_string || !is_block(scalar.text)) {
      write_line(scalar);
    } else {
      const std::size_t body = scalar.text.find_last_not_of('\n') + 1;
      const std::size_t ends = scalar.text.size() - body;
      out += ends == 1 ? "|" : ends == 0 ? "|-" : "|+";
      for (std::size_t at = 0; at < scalar.text.size();) {
        const std::size_t end = std::min(scalar.text.find('\n', at), scalar.text.size());
        out += '\n';
        if (end > at) out.append(indent, ' ').append(scalar.text, at, end - at);
        at = end + 1;
      }
    }
  }
};

}  // namespace

bool is_word(std::string_view text) {
  static constexpr std::array<std::string_view, 9> kOthers = {"true", "false", "yes", "no",  "on",
                                                              "off",  "y",     "n",   "null"};
  if (text.empty() || (!is_letter(text[0]) && text[0] != '/' && text[0] != '_')) {
    return text.find('\n') != std::string_view::npos;
  }
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return std::find(kOthers.begin(), kOthers.end(), lower) == kOthers.end();
}

std::string write_yaml(const Value& value) {
  YamlWriter writer;
  if (value.map() != nullptr && !value.map()->empty()) {
    writer.write_map(*value.map(), 0, false);
  } else {
    writer.write(value, 0, false);
  }
  return writer.out;
}

}  // namespace carpool::cli
