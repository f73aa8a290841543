#include "pg/text_encoding.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace carpool::pg {
namespace {

constexpr std::pair<std::string_view, TextEncoding> kUnsafe[] = {
    {"big5", TextEncoding::TwoBytes},       {"win950", TextEncoding::TwoBytes},
    {"windows950", TextEncoding::TwoBytes}, {"gbk", TextEncoding::TwoBytes},
    {"win936", TextEncoding::TwoBytes},     {"windows936", TextEncoding::TwoBytes},
    {"uhc", TextEncoding::TwoBytes},        {"win949", TextEncoding::TwoBytes},
    {"windows949", TextEncoding::TwoBytes}, {"sjis", TextEncoding::Sjis},
    {"shiftjis", TextEncoding::Sjis},       {"mskanji", TextEncoding::Sjis},
    {"win932", TextEncoding::Sjis},         {"windows932", TextEncoding::Sjis},
    {"shiftjis2004", TextEncoding::Sjis},   {"johab", TextEncoding::Johab},
    {"gb18030", TextEncoding::Gb18030},
};

// clean_encoding_name() of encnames.c.
std::string cleaned(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c >= 'A' && c <= 'Z') out += static_cast<char>(c + ('a' - 'A'));
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) out += c;
  }
  return out;
}

bool is_high(char c) {
  return static_cast<unsigned char>(c) >= 0x80;
}

// Of the character that begins the text, which is not of ASCII.
std::size_t length_of(std::string_view text, TextEncoding encoding) {
  const auto first = static_cast<unsigned char>(text[0]);
  switch (encoding) {
    case TextEncoding::AsciiSafe:
      return 1;
    case TextEncoding::TwoBytes:
      return 2;
    case TextEncoding::Sjis:
      return first >= 0xa1 && first <= 0xdf ? 1 : 2;  // half-width katakana
    case TextEncoding::Johab:
      return first == 0x8f ? 3 : 2;
    case TextEncoding::Gb18030:
      return text.size() > 1 && text[1] >= '0' && text[1] <= '9' ? 4 : 2;
  }
  return 1;
}

}  // namespace

TextEncoding text_encoding(std::string_view client_encoding) {
  const std::string name = cleaned(client_encoding);
  for (const auto& [known, encoding] : kUnsafe) {
    if (name == known) return encoding;
  }
  return TextEncoding::AsciiSafe;
}

bool same_encoding(std::string_view a, std::string_view b) {
  return cleaned(a) == cleaned(b);
}

bool is_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    std::size_t length = 1;
    if (byte(0) >= 0x80) {
      if (byte(0) >= 0xC2 && byte(0) <= 0xDF) {
        length = 2;
      } else if ((byte(0) & 0xF0) == 0xE0) {
        length = 3;
      } else if (byte(0) >= 0xF0 && byte(0) <= 0xF4) {
        length = 4;
      } else {
        return false;
      }
    }
    if (text.size() - at < length) return false;
    for (std::size_t i = 1; i < length; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return false;
    }
    if (byte(0) == 0xE0 && byte(1) < 0xA0) return false;
    if (byte(0) == 0xED && byte(1) > 0x9F) return false;
    if (byte(0) == 0xF0 && byte(1) < 0x90) return false;
    if (byte(0) == 0xF4 && byte(1) > 0x8F) return false;
    at += length;
  }
  return true;
}

bool is_ascii(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  std::size_t i = 0;
  for (; i + sizeof kHighBits <= text.size(); i += sizeof kHighBits) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, text.data() + i, sizeof bytes);
    if ((bytes & kHighBits) != 0) return false;
  }
  return std::none_of(text.begin() + static_cast<std::ptrdiff_t>(i), text.end(), is_high);
}

std::string without_ascii_halves(std::string_view text, TextEncoding encoding) {
  std::string out(text);
  for (std::size_t i = 0; i < out.size();) {
    if (!is_high(out[i])) {
      ++i;
      continue;
    }
    const std::size_t end = std::min(out.size(), i + length_of(text.substr(i), encoding));
    for (; i < end; ++i) {
      if (!is_high(out[i])) out[i] = '\xff';
    }
  }
  return out;
}

}  // namespace carpool::pg
