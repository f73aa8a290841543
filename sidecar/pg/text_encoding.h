// TextEncoding: where the characters of a text begin and end, as far as SQL is read differently for
// it. In all that a server can store its data in, and in most of what clients speak, a byte below
// 0x80 is that character of ASCII. In the few that only clients may speak it may be the second half
// of a longer one: of Japanese 0x95 0x5c in SJIS the server sees a character, and no backslash.
//
// PostgreSQL manual, "Character Set Support"; pg_encname_tbl of src/common/encnames.c and the
// mblen functions of src/common/wchar.c.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace carpool::pg {

enum class TextEncoding : std::uint8_t {
  AsciiSafe,
  TwoBytes,  // BIG5, GBK, UHC
  Sjis,      // and SHIFT_JIS_2004
  Johab,
  Gb18030,
};

// Of a value of client_encoding, in any of PostgreSQL's spellings. One that there is not is
// AsciiSafe: PostgreSQL refuses it.
TextEncoding text_encoding(std::string_view client_encoding);

// Whether both name one encoding, however they are spelled.
bool same_encoding(std::string_view a, std::string_view b);

bool is_ascii(std::string_view text);
// As PostgreSQL checks it (pg_utf8_islegal() of wchar.c).
bool is_utf8(std::string_view text);

// The text with each byte of a longer character as one that is no ASCII, so that it can be read
// like any other; as long as the text. A character that is cut off by the end is masked, too.
std::string without_ascii_halves(std::string_view text, TextEncoding encoding);

}  // namespace carpool::pg
